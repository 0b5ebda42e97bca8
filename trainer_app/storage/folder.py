"""Objects as files in a folder: a local disk or a mounted volume."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import shutil
import stat
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import BinaryIO

from trainer_app.errors import ObjectChangedError
from trainer_app.storage.base import Entry, Names, Unfinished, check_key, check_prefix
from trainer_app.storage.folder_errors import translate_errors
from trainer_app.storage.folder_locks import describe_unfinished, locked, tag_of
from trainer_app.storage_uri import TEMP, find_key_problem

# What file systems without hard links answer to link(2): FAT, SMB, several FUSE mounts.
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


@dataclass(frozen=True)
class FolderStore:
    """A store in a folder (absolute path). See `Store` for the methods."""

    root: str

    @property
    def uri(self) -> str:
        return self.root

    def child(self, prefix: str) -> FolderStore:
        return FolderStore(str(self._path(prefix, folder=True))) if prefix else self

    def put(self, key: str, data: bytes, *, create: bool = False, if_match: str | None = None) -> None:
        if if_match is None:
            self._write(key, io.BytesIO(data), create=create)
            return
        path = self._path(key)
        with translate_errors(path, "write"), locked(path) as tag:
            if tag != if_match:
                raise ObjectChangedError(f"{path} was changed by another writer")
            self._write(key, io.BytesIO(data))

    def tag(self, key: str) -> str | None:
        path = self._path(key)
        with translate_errors(path, "read"):
            try:
                with path.open("rb") as file:  # opened: NFS then asks its server
                    return tag_of(file)
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return None

    def put_file(self, key: str, path: str | PathLike[str]) -> None:
        with translate_errors(Path(path), "read"):
            source = Path(path).open("rb")  # noqa: SIM115 - its errors are not those of the storage
        with source:
            self._write(key, source)

    def get(self, key: str, *, start: int = 0) -> bytes:
        path = self._path(key)
        with translate_errors(path, "read"), path.open("rb") as file:
            file.seek(start)
            return file.read()

    def get_file(self, key: str, path: str | PathLike[str]) -> None:
        path_in_store = self._path(key)
        with translate_errors(path_in_store, "read"):
            source = path_in_store.open("rb")
        target = Path(path).absolute()
        with source, translate_errors(target, "write"):
            target.parent.mkdir(parents=True, exist_ok=True)
            with temp_beside(target) as temp:
                with temp.open("xb") as file:
                    shutil.copyfileobj(source, file, 1 << 20)
                temp.replace(target)

    def exists(self, key: str) -> bool:
        path = self._path(key)
        with translate_errors(path, "read"):
            try:
                return stat.S_ISREG(path.stat().st_mode)
            except (FileNotFoundError, NotADirectoryError):
                return False

    def list(self, prefix: str = "") -> Iterator[Entry]:
        folder = self._path(prefix, folder=True)
        with translate_errors(folder, "list"):
            return iter(sorted(_walk(folder, ""), key=lambda entry: entry.key))

    def list_folders(self, prefix: str = "") -> Names:
        folder = self._path(prefix, folder=True)
        with translate_errors(folder, "list"):
            return sorted(
                item.name for item in _scan(folder) if _follows(item.is_dir) and any(_walk(Path(item.path), ""))
            )

    def delete(self, key: str) -> None:
        path = self._path(key)
        with translate_errors(path, "delete"), suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
            path.unlink()

    def delete_prefix(self, prefix: str) -> None:
        folder = self._path(prefix, folder=True)
        with translate_errors(folder, "delete"):
            while folder.is_dir():
                try:
                    shutil.rmtree(folder)
                except OSError as error:
                    # another process writes or deletes in it
                    if error.errno not in (errno.ENOTEMPTY, errno.ENOENT):
                        raise

    def list_unfinished(self) -> Sequence[Unfinished]:
        with translate_errors(Path(self.root), "list"):
            paths = sorted(Path(self.root).rglob(f"{TEMP}*"))
        return [found for path in paths if (found := describe_unfinished(path, Path(self.root)))]

    def discard(self, unfinished: Unfinished) -> None:
        path = Path(self.root, unfinished.name)
        with translate_errors(path, "delete"), suppress(FileNotFoundError):
            path.unlink()

    def _path(self, key: str, *, folder: bool = False) -> Path:
        return Path(self.root, check_prefix(key) if folder else check_key(key))

    def _write(self, key: str, source: BinaryIO, *, create: bool = False) -> None:
        target = self._path(key)
        with translate_errors(target, "write"):
            for attempt in range(5):
                try:
                    _make_folder(target.parent)
                    source.seek(0)
                    with temp_beside(target) as temp, temp.open("xb") as file:
                        with suppress(OSError):  # a file system without locks
                            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # until it is published
                        shutil.copyfileobj(source, file, 1 << 20)
                        _sync(file.fileno())
                        _publish(temp, target, create=create)
                    break
                except FileNotFoundError:  # delete_prefix removed the folder meanwhile
                    if attempt == 4:
                        raise
            _sync_folder(target.parent)


def _publish(temp: Path, target: Path, *, create: bool) -> None:
    if not create:
        temp.replace(target)
        return
    try:
        target.hardlink_to(temp)
    except FileExistsError:
        # NFS repeats a request whose answer was lost: two links mean that the first request succeeded.
        if temp.stat().st_nlink != 2:
            raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # Without hard links the name is created first (atomic as well), then the rename brings the content. A writer
        # killed between the two leaves an empty object.
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
        temp.replace(target)


@contextmanager
def temp_beside(target: Path) -> Iterator[Path]:
    """Yield a path in the target's folder that no listing shows; a file left there at the end is removed."""
    temp = target.parent / f"{TEMP}{uuid.uuid4().hex[:20]}"
    try:
        yield temp
    finally:
        with suppress(OSError):
            temp.unlink()


def _make_folder(folder: Path) -> None:
    """Make a folder and its parents so that they survive a power cut."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        new.mkdir(exist_ok=True)
        _sync_folder(new.parent)


def _sync_folder(folder: Path) -> None:
    with suppress(FileNotFoundError):  # removed by delete_prefix meanwhile
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            _sync(descriptor)
        finally:
            os.close(descriptor)


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that has no fsync (of folders)
            raise


def _walk(folder: Path, prefix: str) -> Iterator[Entry]:
    for item in _scan(folder):
        key = prefix + item.name
        with suppress(FileNotFoundError):  # removed between the listing and now
            if item.is_dir(follow_symlinks=False):
                yield from _walk(Path(item.path), key + "/")
            elif _follows(item.is_file):
                about = item.stat()
                yield Entry(key, about.st_size, about.st_mtime)


def _follows(look: Callable[[], bool]) -> bool:
    """Return what a look through a link finds; one that leads to itself is nothing, and hides nothing beside it."""
    try:
        return look()
    except OSError as error:
        if error.errno == errno.ELOOP:
            return False
        raise


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as items:
            return [item for item in items if not find_key_problem(item.name)]  # those that no store writes
    except FileNotFoundError:
        return []
