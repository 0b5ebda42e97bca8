"""`--code DIR`: the user's code as one archive, with the same bytes for the same files, named by its SHA-256.

Git itself is asked what .gitignore excludes, so that nested files, `!` and the repository above DIR count as they do
there. (The usual library, pathspec, is MPL-2.0, which is not taken for what is installed at run time.)
"""

from __future__ import annotations

import hashlib
import io
import os
import shlex
import unicodedata
import zipfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Final

from trainer_app import shadowing
from trainer_app.errors import InputError
from trainer_app.launch.git_files import list_files
from trainer_app.secret_files import find_secret_files, is_secret_name

LIMIT_MB: Final = 50
IGNORED: Final = {".git", "__pycache__", ".venv", ".ipynb_checkpoints", ".mypy_cache", ".pytest_cache", ".ruff_cache"}
_ZIP_EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # the first time that a zip can hold: real times would change the digest
MAX_LOOKED_AT: Final = 20_000  # files of an ignored folder: a data set has millions
_RECORDS: Final = {"node_modules", "wandb", "mlruns", "lightning_logs"}
_MODULES: Final = {".py", ".so", ".pyd"}


@dataclass(frozen=True)
class CodeArchive:
    """A zip archive of the user's code: its files' sorted `names`, and their `size` in bytes before compression.

    `notes` has a line for what could be the user's code and is not packed.
    """

    digest: str
    data: bytes = field(repr=False)
    names: tuple[str, ...]
    size: int
    notes: tuple[str, ...] = ()


def pack(folder: str | Path, include: Sequence[str] = ()) -> CodeArchive:
    """Return an archive of the folder's files that git would not ignore, those of repositories inside it too.

    Args:
        include: patterns of files and folders, relative to `folder`, that are packed although git ignores them.

    Raises:
        InputError: there is no such folder, no .py file in it, a module that hides a library's, a file that holds
            secrets and is not included, more than LIMIT_MB, or a link that leads out of it.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InputError(f"--code {folder}: there is no such folder; give the folder of your modules")
    try:
        return _pack(root, include)
    except OSError as error:
        raise InputError(
            f"--code {folder}: can't read {error.filename}: {error.strerror}; exclude it in .gitignore"
        ) from error


def _pack(root: Path, include: Sequence[str]) -> CodeArchive:
    listing, included = list_files(root), set(_list_included(root, include))
    names = {name for name in listing.names if not set(PurePosixPath(name).parts) & IGNORED}
    copies, unpacked = _follow_links(root, names)
    files = {name: root / name for name in sorted(names | copies | included) if (root / name).is_file()}
    _check_names(root, files)
    if not any(name.endswith(".py") for name in files):
        raise InputError(f"--code {root}: no .py file in it that git would not ignore; give the folder of your modules")
    shadowing.check_files((root, name) for name in files)
    _check_secrets(root, [name for name in files if name not in included or not _is_named(name, include)])
    size, data = _check_size(root, files), _archive(files)
    left = [name for name in _find_modules(root, listing.ignored) if not any(f.startswith(name) for f in included)]
    reasons = {
        "git ignores {}; to pack that too: --include PATTERN": left,
        "of {} nothing is packed, since the submodule is not checked out: git submodule update --init": listing.absent,
        "{} is not packed, since it is a link to a folder that is not inside": unpacked,
    }
    notes = (f"--code {root}: {reason.format(_shorten(paths))}" for reason, paths in reasons.items() if paths)
    return CodeArchive(hashlib.sha256(data).hexdigest(), data, tuple(files), size, tuple(notes))


def _check_names(root: Path, names: Collection[str]) -> None:
    """Refuse names that no archive can hold (Cs: not UTF-8), or that would reach a terminal as a command (Cc)."""
    if bad := [ascii(name) for name in names if {"Cc", "Cs"} & set(map(unicodedata.category, name))]:
        raise InputError(
            f"--code {root}: {_shorten(bad)}: names of files are UTF-8 without control characters; rename or ignore it"
        )


def _is_named(name: str, patterns: Sequence[str]) -> bool:
    """Return whether --include names a file that holds secrets, and not only the folder that it is in, or all files."""
    return any(name == one or (is_secret_name(one) and PurePosixPath(name).match(one)) for one in patterns)


def _check_secrets(root: Path, names: Sequence[str]) -> None:
    if secret := find_secret_files(root, names):
        include = " ".join(f"--include {shlex.quote(name)}" for name in secret[:3])
        raise InputError(
            f"--code {root}: {_shorten(secret)} may hold secrets, and every run of the storage could read them: "
            f"add them to .gitignore; to pack them all the same: {include}{' ...' if len(secret) > 3 else ''}"
        )


def _shorten(names: Sequence[str], most: int = 10) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _list_included(root: Path, patterns: Sequence[str]) -> Iterator[str]:
    """Yield the files of --include. Raises InputError for a pattern that leads out of the folder, or to no file."""
    for pattern in patterns:
        parts = set(PurePosixPath(pattern).parts)
        if not parts or parts & {"..", "/"}:
            raise InputError(f"--include {pattern}: give a pattern relative to the folder of --code, such as gen/*.py")
        try:
            found = [root / pattern] if (root / pattern).exists() else root.glob(pattern)
            paths = [file for path in found for file in ([path] if path.is_file() else path.rglob("*"))]
        except ValueError as error:  # such as **x
            raise InputError(f"--include {pattern!r}: {error}; give a pattern such as gen/*.py") from error
        names = [path.relative_to(root).as_posix() for path in paths if path.is_file()]
        names = [name for name in names if not set(PurePosixPath(name).parts) & (IGNORED - parts)]
        if not names:
            raise InputError(f"--include {pattern}: {root} has no such file; give a pattern such as gen/*.py")
        yield from names


def _follow_links(root: Path, names: Collection[str]) -> tuple[set[str], list[str]]:
    """Return (the files below links to folders, the links that lead out of the root or to a folder around them)."""
    top, copies, unpacked = root.resolve(), set[str](), []
    for link in sorted(name for name in names if (root / name).is_symlink() and (root / name).is_dir()):
        target = (root / link).resolve()
        if not target.is_relative_to(top) or (root / link).parent.resolve().is_relative_to(target):
            unpacked.append(link)
            continue
        prefix = f"{target.relative_to(top).as_posix()}/"
        copies |= {f"{link}/{name.removeprefix(prefix)}" for name in names if name.startswith(prefix)}
    return copies, unpacked


def _find_modules(root: Path, ignored: Sequence[str]) -> list[str]:
    """Return the ignored files that Python can import, and folders of such; not virtual environments and caches."""
    found = []
    for name in sorted(ignored):
        path = root / name
        if not set(PurePosixPath(name).parts) & (IGNORED | _RECORDS) and any(
            Path(file).suffix in _MODULES for file in ([name] if path.is_file() else islice(_walk(path), MAX_LOOKED_AT))
        ):
            found.append(name)
    return found


def _walk(folder: Path) -> Iterator[str]:
    """Yield the names of all files below a folder; not those of virtual environments, caches and records of runs."""
    for _, folders, files in os.walk(folder):
        if "pyvenv.cfg" in files:
            folders.clear()
            continue
        folders[:] = sorted(set(folders) - IGNORED - _RECORDS)
        yield from files


def _check_size(root: Path, files: dict[str, Path]) -> int:
    """Return the bytes of all files. Raises InputError for too many, or a link out of the folder."""
    inside = root.resolve()
    for name, path in files.items():
        if not path.resolve().is_relative_to(inside):
            raise InputError(f"--code {root}: {name} is a link out of the folder; copy the file, or ignore it")
    sizes = {name: path.stat().st_size for name, path in files.items()}
    total = sum(sizes.values())
    if total > LIMIT_MB << 20:
        largest = sorted(sizes, key=lambda name: -sizes[name])[:3]
        shown = ", ".join(f"{name} ({sizes[name] / 2**20:.1f} MB)" for name in largest)
        raise InputError(
            f"--code {root} has {total / 2**20:.1f} MB in {len(files)} files, more than {LIMIT_MB} MB; the largest: "
            f"{shown}; exclude what is not code in .gitignore, or build it into an image (--image)"
        )
    return total


def _archive(files: dict[str, Path]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name, path in files.items():
            entry = zipfile.ZipInfo(name, _ZIP_EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix, whatever this machine is
            entry.external_attr = (0o755 if path.stat().st_mode & 0o100 else 0o644) << 16
            archive.writestr(entry, path.read_bytes())
    return target.getvalue()
