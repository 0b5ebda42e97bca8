"""What a process shares with the machine it is on: its environment, and folders that only its user writes."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def temporary_environment(more: Mapping[str, str]) -> Iterator[None]:
    """Inside, this process and those that it starts have these variables; afterwards what they had before."""
    before = {name: os.environ.get(name) for name in more}
    os.environ.update(more)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def make_private_folder(folder: Path) -> bool:
    """Makes the folder, with mode 0700, unless something is there. Whether it is one that only this user writes.

    In a folder that all users write, such as /tmp, somebody else may have made it, or a link to elsewhere.
    """
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except FileExistsError:  # no folder
        return False
    info = folder.lstat()
    return stat.S_ISDIR(info.st_mode) and info.st_uid == os.getuid() and not info.st_mode & 0o022
