"""Sources of images: `download`, `digits`, a folder, `s3://...`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os.path import isfile
from pathlib import Path
from typing import Any, Final

from trainer_app.examples.data import digits
from trainer_app.examples.data.download import download
from trainer_app.examples.data.idx import NAMES, Arrays, DataError, read_folder
from trainer_app.redact import redact_text
from trainer_app.storage import open_store
from trainer_app.storage_uri import FolderUri, StorageUriError, parse_storage_uri

ALLOWED: Final = "auto, download, digits, a folder with the four IDX files, or s3://bucket/prefix"
DOWNLOAD_SECONDS: Final = 900.0


@dataclass(frozen=True)
class Source:
    """A folder, bucket or download that holds one data set."""

    name: str  # what a run file says
    key: str  # unique among the sources of this node
    read: Callable[[Path], Arrays]  # its argument is an empty folder to work in
    fingerprint: Callable[[], Any]  # plain JSON that changes if the content may have changed; None if that is unknown


def find_source(name: str, dataset: str) -> Source:
    """Return the source that a run file names.

    Args:
        name: as in ALLOWED, without `auto`.
        dataset: MNIST or FashionMNIST.

    Raises:
        DataError: the name is not allowed, or the data is not there.
    """
    if name == "digits":
        return Source(name, name, lambda _: digits.read_digits(), lambda: digits.CHECKSUM)
    if name == "download":
        return download_source(dataset, seconds=lambda: DOWNLOAD_SECONDS)
    try:
        location = parse_storage_uri(name)
    except StorageUriError as e:
        raise DataError(f"data source {redact_text(name)!r}: {e.message}; allowed: {ALLOWED}") from None
    if not isinstance(location, FolderUri):
        return _s3_source(name, dataset)
    folder = Path(location.path).expanduser().absolute()
    if not folder.is_dir():
        raise DataError(f"data source {name!r}: no folder {folder} on this machine; allowed: {ALLOWED}")
    files = find_files(folder, layouts(dataset))
    if files is None:
        raise DataError(f"data source {name!r}: {folder} {_describe_missing(folder, dataset)}")
    return folder_source(folder, files, dataset)


def layouts(dataset: str) -> tuple[str, ...]:
    """Return where the files may be in a folder or under a prefix: torchvision's layout first."""
    return f"{dataset}/raw/", f"{dataset}/", ""


def find_files(folder: Path, under: tuple[str, ...]) -> dict[str, Path] | None:
    """Return the four files, by the keys of idx.NAMES, if they are all in one of these layouts."""
    files = _find_all([f"{folder / layout}/" for layout in under], isfile)
    return {key: Path(path) for key, path in files.items()} if files else None


def _find_all(prefixes: Sequence[str], exists: Callable[[str], bool]) -> dict[str, str] | None:
    """Return the four names under the first prefix that has them all."""
    for prefix in prefixes:
        names = {key: next(filter(exists, _spellings(prefix, name)), "") for key, name in NAMES.items()}
        if all(names.values()):
            return names
    return None


def folder_source(folder: Path, files: dict[str, Path], dataset: str) -> Source:
    """Return a folder as a source: its absolute path is its name.

    Args:
        folder: absolute.
        files: as `find_files` returns them.
        dataset: MNIST or FashionMNIST.
    """

    def fingerprint() -> Any:
        stats = [(path, path.stat()) for path in files.values()]
        return [[str(path), s.st_size, s.st_mtime_ns, s.st_ino] for path, s in stats]

    return Source(str(folder), f"{dataset} {folder}", lambda _: read_folder(files), fingerprint)


def download_source(dataset: str, *, seconds: Callable[[], float]) -> Source:
    """Return torchvision's download, which verifies each file.

    Args:
        dataset: MNIST or FashionMNIST.
        seconds: returns its time limit when it starts.
    """

    def read(work: Path) -> Arrays:
        download(dataset, work, seconds=seconds())
        files = find_files(work, layouts(dataset))
        if files is None:
            raise DataError(f"download of {dataset}: torchvision left no IDX files; name a folder as source")
        return read_folder(files)

    return Source("download", f"{dataset} download", read, lambda: "verified by torchvision")


def _s3_source(uri: str, dataset: str) -> Source:
    store = open_store(uri)
    keys = _find_all(layouts(dataset), store.exists)
    if keys is None:
        every = ", ".join(NAMES.values())
        raise DataError(f"data source {uri!r}: not all of {every} (or .gz) there, nor under {dataset}/")

    def fingerprint() -> Any:
        under, _, _ = keys["train_images"].rpartition("/")
        names = {key.rpartition("/")[2] for key in keys.values()}
        home = store.child(under) if under else store
        entries = [[under, e.key, e.size, e.modified] for e in home.list() if e.key in names]
        return entries if len(entries) == len(names) else None

    def read(work: Path) -> Arrays:
        files = {key: work / Path(name).name for key, name in keys.items()}
        for key, path in files.items():
            store.get_file(keys[key], path)
        return read_folder(files)

    return Source(uri, f"{dataset} {uri}", read, fingerprint)


def _spellings(prefix: str, name: str) -> tuple[str, ...]:
    dotted = name.replace("-idx", ".idx")  # as the archives of some mirrors name them
    return tuple(f"{prefix}{stem}{end}" for stem in (name, dotted) for end in ("", ".gz"))


def _describe_missing(folder: Path, dataset: str) -> str:
    other = next((p for p in sorted(folder.glob("*/raw")) if find_files(p, ("",))), None)
    if other:
        return f"holds no {dataset}; if {other.parent.name} is what you mean, write source: {other}"
    there = list_files(folder)
    if there:
        return f"holds {', '.join(there)} only; all of {', '.join(NAMES.values())} (or .gz) are needed"
    return f"holds none of {', '.join(NAMES.values())} (or .gz), nor does {dataset}/raw in it"


def list_files(folder: Path) -> list[str]:
    """Return those of the four files that are directly in the folder."""
    return [Path(s).name for name in NAMES.values() for s in _spellings(f"{folder}/", name) if Path(s).is_file()]
