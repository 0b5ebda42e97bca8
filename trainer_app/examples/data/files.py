"""Files as data: a folder, an archive or a file, here or on S3. Chosen once a run, fetched once a node, verified."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from trainer_app.examples.data import cache as caches
from trainer_app.examples.data.idx import DataError
from trainer_app.examples.data.origins import Make, Origin, find_origin

NOTHING_MADE: Final[Mapping[str, Make]] = MappingProxyType({})


@dataclass(frozen=True)
class Files:
    """A folder or one file on this node.

    `source` is what a run file says, a path of this machine made absolute. `checksum` is SHA-256: of a file its own,
    of a folder over the names and content of its files, less hidden ones.
    """

    source: str
    checksum: str
    path: Path


def fetch_files(source: str, *, checksum: str | None = None, made: Mapping[str, Make] = NOTHING_MADE) -> Files:
    """Return the files of a source. What is on this machine is used where it is, the rest from this node's cache.

    Args:
        source: a folder, a file, a tar archive of a folder, `s3://bucket/...` of one of them, or a key of `made`.
        checksum: return exactly these files, even if the source has changed; None takes what the source has.
        made: names of what this machine makes or downloads, and how.

    Raises:
        DataError: there is no such source, it can't be read or kept, or it has another checksum.
    """
    cache = caches.cache_dir()
    if checksum and (path := _find_kept(checksum, cache)):
        return Files(source, checksum, path)
    origin = find_origin(source, made)
    with caches.lock(_short_hash(origin.key), cache=cache):
        if origin.place is not None:
            files = Files(origin.name, _recall_digest(origin.place, cache), origin.place)
        else:
            files = _keep(origin, cache)
    if checksum and checksum != files.checksum:
        raise DataError(
            f"{files.source!r} holds {files.checksum[:19]}..., the run started with {checksum[:19]}...; restore it, or"
            " start a new run"
        )
    return files


def resolve_files(
    init_args: Mapping[str, Any], *, source: str, checksum: str, default: str, made: Mapping[str, Make] = NOTHING_MADE
) -> tuple[dict[str, Any], Files]:
    """Choose the files of a run, for a `resolve_init_args`.

    Args:
        init_args: of the run file.
        source, checksum: the names of the two init_args.
        default: the source if the run file names none.
        made: as for `fetch_files`.

    Returns:
        the init_args with a source that every node understands and its checksum, and the files.

    Raises:
        DataError: as `fetch_files`.
    """
    try:
        files = fetch_files(str(init_args.get(source) or default), checksum=init_args.get(checksum), made=made)
    except DataError as e:
        raise DataError(f"{source}: {e}") from e
    return {**init_args, source: files.source, checksum: files.checksum}, files


def _keep(origin: Origin, cache: Path) -> Files:
    """Return the copy of this node, and make it first if there is none or the source may have changed."""
    key, fingerprint = _short_hash(origin.key), origin.fingerprint()
    known = caches.recall_checksum(key, fingerprint, cache=cache)
    if known and (path := _find_kept(known, cache)):
        return Files(origin.name, known, path)
    try:
        with caches.temporary_folder(cache) as work:
            origin.write(work / "files")
            digest, path = _save(work / "files", cache)
        caches.record_checksum(key, fingerprint, digest, cache=cache)
    except OSError as e:
        raise DataError(f"{cache}: cannot keep {origin.name} there: {e.strerror or e}; see TRAINER_CACHE") from e
    return Files(origin.name, digest, path)


def _save(work: Path, cache: Path) -> tuple[str, Path]:
    """Move a folder, or the folder of a single file, into the cache; return the checksum and where it is."""
    content = [path for path in work.iterdir() if path.is_file()] if len(list(work.iterdir())) == 1 else []
    digest = _digest(content[0] if content else work)
    target = _kept_folder(digest, cache, "file" if content else "folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    with caches.lock(target.name, cache=cache):  # another source may hold the same files
        if _find_kept(digest, cache) is None:
            if target.exists():  # damaged
                target.rename(work.with_name("damaged"))
            work.rename(target)
    return digest, target / content[0].name if content else target


def _find_kept(digest: str, cache: Path) -> Path | None:
    """Return the files with that checksum, verified; None if they are missing or damaged."""
    for kind in ("folder", "file"):
        path = _kept_folder(digest, cache, kind)
        if path.is_dir():
            content = path if kind == "folder" else next(path.iterdir(), path)
            return content if _recall_digest(content, cache) == digest else None
    return None


def _kept_folder(digest: str, cache: Path, kind: str) -> Path:
    return cache / f"{kind}s" / digest.removeprefix("sha256:")


def _recall_digest(path: Path, cache: Path) -> str:
    """Return the checksum of a folder or file; it is read again only if a name, size or time has changed."""
    key = _short_hash(f"digest {path}")
    stats = [(file, file.stat()) for file in list_shown(path)]
    fingerprint = [[str(file), s.st_size, s.st_mtime_ns, s.st_ino] for file, s in stats]
    digest = caches.recall_checksum(key, fingerprint, cache=cache)
    if digest is None:
        digest = _digest(path)
        caches.record_checksum(key, fingerprint, digest, cache=cache)
    return digest


def _digest(path: Path) -> str:
    if path.is_file():
        return f"sha256:{_hash_file(path)}"
    total = hashlib.sha256()
    for file in list_shown(path):
        total.update(f"{file.relative_to(path).as_posix()}\0{_hash_file(file)}\n".encode(errors="surrogateescape"))
    return f"sha256:{total.hexdigest()}"


def _hash_file(path: Path) -> str:
    try:
        with open(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as e:
        raise DataError(f"{path}: cannot be read: {e.strerror or e}") from e


def list_shown(path: Path) -> Iterator[Path]:
    """Yield the files, sorted; hidden ones and what is no file are left out."""
    if path.is_file():
        yield path
    for folder, names, leaves in os.walk(path, followlinks=True):
        names[:] = sorted(name for name in names if not name.startswith("."))
        shown = [Path(folder, leaf) for leaf in sorted(leaves) if not leaf.startswith(".")]
        yield from (file for file in shown if file.is_file())


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]
