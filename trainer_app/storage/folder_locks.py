"""Locks on the files of a folder store: who writes them now, and who may replace them."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from trainer_app.storage.base import Unfinished


def tag_of(file: BinaryIO) -> str:
    """Return what identifies the content of a file: each write makes a new one."""
    about = os.fstat(file.fileno())
    return f"{about.st_ino}-{about.st_mtime_ns}-{about.st_size}"


@contextmanager
def locked(path: Path) -> Iterator[str | None]:
    """Yield the tag of a file, which nobody else who locks it replaces meanwhile; None if there is no such file."""
    while True:
        try:
            with _open_to_lock(path) as file:
                with suppress(OSError):  # a file system without locks
                    fcntl.flock(file, fcntl.LOCK_EX)
                if os.path.samestat(os.fstat(file.fileno()), path.stat()):  # else it was replaced before the lock
                    yield tag_of(file)
                    return
        except FileNotFoundError:
            yield None
            return


def _open_to_lock(path: Path) -> BinaryIO:
    try:
        return path.open("rb+")  # NFS locks only what can be written
    except PermissionError:
        return path.open("rb")


def describe_unfinished(path: Path, root: Path) -> Unfinished | None:
    """Return a temporary file as an unfinished write; None if it is gone. Its writer holds a lock on it."""
    try:
        with path.open("rb") as file:
            about = os.fstat(file.fileno())
            live: bool | None = False
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError as error:
                live = True if error.errno in (errno.EWOULDBLOCK, errno.EACCES) else None
    except OSError:
        return None
    key = path.parent.relative_to(root).as_posix()
    return Unfinished(key, about.st_size, about.st_mtime, live, path.relative_to(root).as_posix())
