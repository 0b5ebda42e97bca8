"""A copy of the working folder, for code that reads what is there and may write nothing there."""

from __future__ import annotations

import os
import shutil
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import chdir, contextmanager, suppress
from pathlib import Path
from typing import Final

_MAX_ENTRIES: Final = 10_000  # 0.3 s
_MAX_COPIED: Final = 64 << 20  # bytes of a file
_MAX_TOTAL: Final = 256 << 20


@contextmanager
def mirrored(source: Path, target: Path) -> Iterator[None]:
    """Work in `target`, made like `source`: folders are made, files are copied.

    Links to the original stand for files over 64 MB, for what is beyond 256 MB in all, for folders below the first
    10,000 entries, and for Git's folder and virtual environments.
    """
    _copy_folder(source, target)
    # Modules come from the original, which is what an error names, and not a second time from the copy.
    sys.path[:] = [*(str(source) if folder in ("", ".") else folder for folder in sys.path), str(target)]
    with chdir(target):
        yield


def _copy_folder(source: Path, target: Path) -> None:
    target.mkdir(parents=True)
    folders, entries, left = deque([(source, target)]), 0, _MAX_TOTAL
    while folders:
        here, there = folders.popleft()
        for entry in _list(here):
            entries += 1
            if entries < _MAX_ENTRIES and _is_mirrored(entry):
                (there / entry.name).mkdir()
                folders.append((Path(entry.path), there / entry.name))
            else:
                left -= _copy_file(entry, there / entry.name, left)


def _list(folder: Path) -> list[os.DirEntry[str]]:
    with suppress(FileNotFoundError):  # deleted meanwhile, by another run
        return sorted(os.scandir(folder), key=lambda entry: entry.name)
    return []


def _copy_file(entry: os.DirEntry[str], new: Path, left: int) -> int:
    """Copy a file of at most `left` bytes, or link to what is larger, or no file; return how many bytes were copied."""
    with suppress(FileNotFoundError):
        size = entry.stat(follow_symlinks=False).st_size
        if entry.is_file(follow_symlinks=False) and size <= min(left, _MAX_COPIED) and os.access(entry, os.R_OK):
            shutil.copy2(entry.path, new)
            return size
        new.symlink_to(entry.path)
    return 0


def _is_mirrored(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder whose files are copied."""
    installed = entry.name in (".git", "node_modules") or Path(entry, "pyvenv.cfg").exists()
    return entry.is_dir(follow_symlinks=False) and not installed and os.access(entry, os.R_OK | os.X_OK)
