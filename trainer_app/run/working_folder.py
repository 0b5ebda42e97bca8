"""The working folder of a fit: the user's own, or one for each trial and node with the user's files in it."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from trainer_app.errors import InputError
from trainer_app.machine import make_private_folder

ROOT: Final = "TRAINER_WORK"  # where they are made: in a pod the folder that can be written; else with temporary files
FOLDER: Final = "trainer-work"
LOCK: Final = "lock"  # held while folders are made and removed
MAX_ENTRIES: Final = 2000  # of the user's folder, that are in the new one with their own folders; 40 ms
MAX_COPIED: Final = 64 << 20  # bytes in all; what is beyond is linked, and not protected from being written
IGNORED: Final = {"__pycache__", ".git", ".venv", "node_modules"}
_left: list[Path] = []  # the folders that this process has left for a working folder
_CLOCK_S: Final = 0.02  # file systems' clocks are up to 10 ms late


@dataclass(frozen=True)
class WorkingFolder:
    """A working folder; what changed in it after `since`, in Unix seconds, was written by the fit."""

    path: Path
    since: float


@contextmanager
def entered(
    name: str, sources: Sequence[Path], *, storage: str, fill: Callable[[Path], None]
) -> Iterator[WorkingFolder]:
    """Work in a folder that all processes of this name on this node share; the last one out removes it.

    Imports of the user's modules stay those of the original folders.

    Args:
        sources: folders whose files are in it; of two files of one name the first one's.
        storage: a folder's entries are linked as they are, if it is in one of the sources.
        fill: adds more files to the new folder.

    Raises:
        InputError: there is no place for it.
    """
    root, before = _root(), Path.cwd()
    with _locked(root):
        _remove_leftovers(root, name)
        used = (root / f"{name}.used").open("a")  # locked by every process that works in the folder
        folder = _prepare(root / name, used, sources, storage, fill)
        fcntl.flock(used, fcntl.LOCK_SH)
    _left.append(before)
    try:
        with _working_in(folder.path):
            yield folder
    finally:
        _left.pop()
        with used, _locked(root):
            _remove_unused(folder.path, used)


@contextmanager
def in_copy(target: Path) -> Iterator[None]:
    """Work in a copy of the working folder, see `mirror`: for code that reads what is there and may change nothing."""
    mirror(Path.cwd(), target)
    with _working_in(target):
        yield


def user_folder() -> Path:
    """Return the folder that this process was started in: the user's own, or the image's."""
    return _left[0] if _left else Path.cwd()


def name_folder(*parts: str, fit: str = "") -> str:
    """Return a name for a working folder, which differs if any part does; up to "-" it is the same for all fits."""
    run, own = (hashlib.sha256(text.encode()).hexdigest() for text in ("\n".join(parts), fit))
    return f"{run[:16]}-{own[:16]}"


def mirror(source: Path, target: Path, *, storage: str = "") -> None:
    """Put the files of a folder into another one, where they are not yet: as copies, those beyond MAX_COPIED as links.

    Folders are made anew, so that what is written into them stays there; hidden ones, and those beyond MAX_ENTRIES,
    are links. Python's own files are links too: a module stays the file that it was.
    """
    waiting, room, room_to_copy = deque([(source, target)]), MAX_ENTRIES, MAX_COPIED
    while waiting:
        folder, into = waiting.popleft()
        into.mkdir(exist_ok=True)
        for item in _list(folder):
            place, is_folder = into / item.name, item.is_dir()
            if is_folder and not item.name.startswith(".") and str(folder) != storage:
                room -= (size := len(_list(Path(item.path))))
                if room >= 0:
                    waiting.append((Path(item.path), place))
                    continue
                room += size
            if not os.path.lexists(place):
                room_to_copy -= _copy_or_link(item, place, room_to_copy)


def _list(folder: Path) -> list[os.DirEntry[str]]:
    with suppress(OSError), os.scandir(folder) as items:
        return sorted((item for item in items if item.name not in IGNORED), key=lambda item: item.name)
    return []


def _copy_or_link(item: os.DirEntry[str], place: Path, room: int) -> int:
    """Return how many bytes were copied, `room` at most."""
    with suppress(OSError):
        if item.is_file() and (size := item.stat().st_size) <= room and not item.name.endswith((".py", ".so")):
            shutil.copy2(item.path, place)
            return size
    place.unlink(missing_ok=True)
    place.symlink_to(os.path.realpath(item.path))
    return 0


@contextmanager
def _working_in(folder: Path) -> Iterator[None]:
    before, path = Path.cwd(), list(sys.path)
    os.chdir(folder)
    # last, so that nothing is imported from here that is elsewhere: the folder will be removed
    sys.path[:] = [*(entry if entry not in ("", ".") else str(before) for entry in path), str(folder)]
    try:
        yield
    finally:
        sys.path[:] = path
        os.chdir(before)


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    with (root / LOCK).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _prepare(
    folder: Path, used: IO[str], sources: Sequence[Path], storage: str, fill: Callable[[Path], None]
) -> WorkingFolder:
    """Make the folder, whole or not at all, if it is not there; `used` has the time of that."""
    if not folder.is_dir():
        with tempfile.TemporaryDirectory(dir=folder.parent, ignore_cleanup_errors=True) as temp:
            files = Path(temp, "files")
            for source in sources:
                mirror(source, files, storage=storage)
            files.mkdir(exist_ok=True)
            fill(files)
            time.sleep(_CLOCK_S)
            os.utime(used.fileno())
            files.rename(folder)
    return WorkingFolder(folder, os.fstat(used.fileno()).st_mtime)


def _remove_unused(folder: Path, used: IO[str]) -> None:
    """Remove the folder, unless another process works in it."""
    with suppress(BlockingIOError):
        fcntl.flock(used, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
        Path(used.name).unlink()


def _remove_leftovers(root: Path, name: str) -> None:
    """Remove the folders that no process works in: those of killed ones. This run's stay, for its next tries.

    Args:
        name: of the folder that is entered now.
    """
    of_this_run = name.partition("-")[0]
    for left in {path.stem for path in root.iterdir()} - {LOCK}:
        if left.partition("-")[0] != of_this_run:
            with (root / f"{left}.used").open("a") as used:
                _remove_unused(root / left, used)


def _root() -> Path:
    root = Path(os.environ.get(ROOT) or tempfile.gettempdir(), FOLDER)
    if not make_private_folder(root):
        raise InputError(f"{root} is not a folder that only this user can write: remove it, or set TMPDIR")
    return root
