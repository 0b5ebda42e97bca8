"""Temporary folders of runs, which a process that is killed leaves behind and the next one removes.

A folder is locked while its process lives: the kernel drops the lock of a process that is gone.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

PREFIX: Final = "trainer-tmp-"
TRIES: Final = 5  # Ray's processes end within a second of its shutdown
_held: dict[Path, int] = {}


@contextmanager
def temporary_folder(name: str) -> Iterator[str]:
    """Yield the path of a new folder of this name, which is removed at the end."""
    folder = make_folder(name)
    try:
        yield str(folder)
    finally:
        _remove_own(folder)


def make_folder(name: str) -> Path:
    """Make a folder that stays until `remove_folders`, or until this process ends and another one calls that."""
    new = Path(tempfile.mkdtemp(prefix=f".{PREFIX}"))
    descriptor = os.open(new, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    folder = new.rename(new.with_name(f"{PREFIX}{name}-{new.name.rpartition('-')[2]}"))  # nobody looks at it unlocked
    _held[folder] = descriptor
    return folder


def remove_folders() -> None:
    """Remove this process's folders, and those of this user's processes that are gone."""
    for folder in list(_held):
        _remove_own(folder)
    for attempt in range(TRIES):
        left = [folder for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*") if not _remove_dead(folder)]
        if not left:
            return
        time.sleep(0.2 if attempt + 1 < TRIES else 0)


def _remove_own(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    if (descriptor := _held.pop(folder, None)) is not None:
        os.close(descriptor)


def _remove_dead(folder: Path) -> bool:
    """Remove a folder whose process is gone; return whether nothing of this user's is left there."""
    try:
        if folder.lstat().st_uid != os.getuid():
            return True
        descriptor = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
    except OSError:  # gone meanwhile, or no folder
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    else:
        shutil.rmtree(folder, ignore_errors=True)
        return True
    finally:
        os.close(descriptor)
