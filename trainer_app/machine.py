"""A process and its machine: environment variables, folders that only its user can write, files that are whole."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from trainer_app.errors import InputError


@contextmanager
def temporary_environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for this process and those that it starts, and restore the former ones at the end."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def prepend_python_path(*folders: str) -> None:
    """Put folders first on PYTHONPATH, each once: the processes that this one starts import from them."""
    present = [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([*folders, *present]))


def make_private_folder(folder: Path) -> bool:
    """Create the folder with mode 0700 if nothing is there, and return whether only this user can write it.

    In a folder that all users can write, such as /tmp, another user may have created it, or a link to elsewhere.
    """
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except FileExistsError:  # no folder
        return False
    info = folder.lstat()
    return stat.S_ISDIR(info.st_mode) and info.st_uid == os.getuid() and not info.st_mode & 0o022


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that appears whole or not at all; a pipe or /dev/null is written to, never replaced by a file.

    Raises:
        InputError: it can't be written.
    """
    partial = path.resolve().parent / f".trainer-{os.getpid()}"
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(data)
            return
        partial.write_bytes(data)
        partial.replace(path.resolve())
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InputError(f"cannot write {path}: {error.strerror or error}; give a file that you can write") from error
