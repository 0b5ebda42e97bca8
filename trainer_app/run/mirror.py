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
    target.mkdir(parents=True)
    folders, entries, copied = deque([(source, target)]), 0, 0
    while folders:
        here, there = folders.popleft()
        for entry in sorted(os.scandir(here), key=lambda e: e.name):
            new, entries = there / entry.name, entries + 1
            plain = entry.is_file(follow_symlinks=False) and os.access(entry.path, os.R_OK)
            size = entry.stat().st_size if plain else 0
            if entry.is_dir(follow_symlinks=False) and entries < _MAX_ENTRIES and _is_mirrored(entry):
                new.mkdir()
                folders.append((Path(entry.path), new))
            elif plain and size <= _MAX_COPIED and copied + size <= _MAX_TOTAL:
                copied += size
                with suppress(FileNotFoundError):  # deleted meanwhile, by another run
                    shutil.copy2(entry.path, new)
            else:
                new.symlink_to(entry.path)
    # Modules come from the original, which is what an error names, and not a second time from the copy.
    sys.path[:] = [*(str(source) if folder in ("", ".") else folder for folder in sys.path), str(target)]
    with chdir(target):
        yield


def _is_mirrored(folder: os.DirEntry[str]) -> bool:
    installed = folder.name in (".git", "node_modules") or Path(folder, "pyvenv.cfg").exists()
    return not installed and os.access(folder, os.R_OK | os.X_OK)
