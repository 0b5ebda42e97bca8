"""Where files come from: this machine, S3, an archive of either, or a function that makes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from trainer_app.examples.data.archive import is_archive, unpack
from trainer_app.examples.data.idx import DataError
from trainer_app.redact import redact_text
from trainer_app.storage import Store, open_store
from trainer_app.storage.parallel import map_parallel
from trainer_app.storage_uri import FolderUri, S3Uri, StorageUriError, parse_scheme, parse_storage_uri

Make = Callable[[Path], None]  # writes files into an empty folder; another content needs another name
PLACES: Final = "a folder, a file, a .tar or .tar.gz of a folder, or s3://bucket/... of one of them"


@dataclass(frozen=True)
class Origin:
    """A source that was found. `place` is where its files are, if they are on this machine; else `write` gets them."""

    name: str  # what a run file says
    key: str  # unique among the sources of this node
    place: Path | None = None
    write: Make = lambda folder: None
    fingerprint: Callable[[], Any] = lambda: None  # plain JSON that changes if the content may have changed


def find_origin(source: str, made: Mapping[str, Make]) -> Origin:
    """Return the source that a run file names.

    Raises:
        DataError: the name is not allowed, or there is nothing.
    """
    if source in made:
        return Origin(source, f"made {source}", write=_into_new(made[source]), fingerprint=lambda: "made")
    allowed = ", ".join([*made, PLACES])
    uri = (
        source.replace("file:/", "file:///", 1) if source.startswith("file:/") and not parse_scheme(source) else source
    )
    try:
        location = parse_storage_uri(uri)
    except StorageUriError as e:
        raise DataError(f"{redact_text(source)!r}: {e.message}; allowed: {allowed}") from None
    if isinstance(location, S3Uri):
        return _find_in_bucket(source, location)
    return _find_here(source, location, allowed)


def _find_here(source: str, location: FolderUri, allowed: str) -> Origin:
    path = Path(location.path).expanduser().absolute()
    if path.is_dir() or (path.is_file() and not is_archive(path.name)):
        return Origin(str(path), f"files {path}", place=path)
    if not path.is_file():
        raise DataError(f"{source!r}: there is no {path} on this machine; allowed: {allowed}")

    def fingerprint() -> Any:
        stat = path.stat()
        return [stat.st_size, stat.st_mtime_ns, stat.st_ino]

    return Origin(str(path), f"archive {path}", write=lambda folder: unpack(path, folder), fingerprint=fingerprint)


def _find_in_bucket(source: str, location: S3Uri) -> Origin:
    above, _, name = location.prefix.rstrip("/").rpartition("/")
    parent = open_store(replace(location, prefix=above).uri)
    if name and parent.exists(name):
        return _object(source, parent, name)
    store = open_store(source)
    entries = [e for e in store.list() if not e.key.endswith("/")]
    if not entries:
        raise DataError(f"{source!r}: there is no such object, and no objects under it")

    def write(folder: Path) -> None:
        def get(key: str) -> None:
            target = folder / key
            if not target.resolve().is_relative_to(folder.resolve()):
                raise DataError(f"{source!r}: the object {key!r} lies outside of it")
            target.parent.mkdir(parents=True, exist_ok=True)
            store.get_file(key, target)

        folder.mkdir()
        list(map_parallel(get, [e.key for e in entries]))

    return Origin(
        source, f"files {source}", write=write, fingerprint=lambda: [[e.key, e.size, e.modified] for e in entries]
    )


def _object(source: str, store: Store, name: str) -> Origin:
    def write(folder: Path) -> None:
        folder.mkdir()
        store.get_file(name, folder / name)
        if is_archive(name):
            archive = folder.with_name("archive")
            (folder / name).rename(archive)
            folder.rmdir()
            unpack(archive, folder, name=source)
            archive.unlink()

    return Origin(source, f"files {source}", write=write, fingerprint=lambda: store.tag(name))


def _into_new(make: Make) -> Make:
    def write(folder: Path) -> None:
        folder.mkdir()
        make(folder)

    return write
