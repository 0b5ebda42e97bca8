"""`--code DIR`: the user's code as one archive, with the same bytes for the same files, named by its SHA-256.

Git itself is asked what .gitignore excludes, so that nested files, `!` and the repository above DIR count as they do
there. (The usual library, pathspec, is MPL-2.0, which is not taken for what is installed at run time.)
"""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

from trainer_app.errors import InputError, TrainerError
from trainer_app.formatting import one_line

LIMIT_MB: Final = 50
TIMEOUT_S: Final = 30
IGNORED: Final = {".git", "__pycache__", ".venv", ".ipynb_checkpoints", ".mypy_cache", ".pytest_cache", ".ruff_cache"}
_ZIP_EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # the first time that a zip can hold: real times would change the digest
_LIST_COMMAND: Final = ("ls-files", "-z", "--cached", "--others", "--exclude-standard")


@dataclass(frozen=True)
class CodeArchive:
    """A zip archive of the user's code: its files' sorted `names`, and their `size` in bytes before compression."""

    digest: str
    data: bytes = field(repr=False)
    names: tuple[str, ...]
    size: int


def pack(folder: str | Path) -> CodeArchive:
    """Return an archive of the folder's files that git would not ignore.

    Raises:
        InputError: there is no such folder, no .py file in it, more than LIMIT_MB, or a link that leads out of it.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InputError(f"--code {folder}: there is no such folder; give the folder of your modules")
    names = sorted(name for name in _list_files(root) if not set(PurePosixPath(name).parts) & IGNORED)
    files = {name: root / name for name in names if (root / name).is_file()}
    if not any(name.endswith(".py") for name in files):
        raise InputError(
            f"--code {folder}: no .py file in it that git would not ignore; give the folder of your modules"
        )
    size, data = _check_size(root, files), _archive(files)
    return CodeArchive(hashlib.sha256(data).hexdigest(), data, tuple(files), size)


def _list_files(root: Path) -> Iterable[str]:
    git = shutil.which("git")
    if git is None:
        if ignored := next(root.rglob(".gitignore"), None):
            raise TrainerError(f"git is not on PATH, and is needed to read {ignored}; install git")
        return [path.relative_to(root).as_posix() for path in root.rglob("*")]
    inside = _git(git, ["-C", str(root), "rev-parse", "--is-inside-work-tree"])
    if inside.returncode == 0 and inside.stdout.strip() == b"true":
        return _file_names(_git(git, ["-C", str(root), *_LIST_COMMAND]))
    # A folder outside any repository: git reads its .gitignore files with an empty repository beside it.
    with tempfile.TemporaryDirectory(prefix="trainer-") as empty:
        _git(git, ["init", "--quiet", "--bare", empty])
        options = [f"--git-dir={empty}", f"--work-tree={root.absolute()}", "-c", "core.bare=false"]
        return _file_names(_git(git, ["-C", str(root), *options, *_LIST_COMMAND]))


def _git(git: str, arguments: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
    try:
        # safe.directory: the listing runs no hook, and a checkout of another user's (in a container) is code as well
        return subprocess.run([git, "-c", "safe.directory=*", *arguments], capture_output=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise TrainerError(f"git did not list the files within {TIMEOUT_S} s") from error


def _file_names(done: subprocess.CompletedProcess[bytes]) -> list[str]:
    if done.returncode:
        message = one_line(done.stderr.decode(errors="replace"))[:300]
        raise TrainerError(f"git can't list the files of --code: {message}")
    return [name.decode(errors="surrogateescape") for name in done.stdout.split(b"\0") if name]


def _check_size(root: Path, files: dict[str, Path]) -> int:
    """Return the bytes of all files. Raises InputError for too many, or a link out of the folder."""
    inside = root.resolve()
    for name, path in files.items():
        if path.is_symlink() and not path.resolve().is_relative_to(inside):
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
