"""The user's code: an archive in the run's storage, unpacked once on each node, importable in each process."""

from __future__ import annotations

import fcntl
import hashlib
import importlib
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import Final

from trainer_app.errors import InputError, UserCodeError
from trainer_app.machine import make_private_folder, prepend_python_path
from trainer_app.storage import Store

CODE: Final = "TRAINER_CODE"  # SHA-256 of the archive, in hex
FOLDER: Final = "trainer-code"  # of the machine's temporary files


def install(store: Store, digest: str) -> Path | None:
    """Make the run's `code/<digest>.zip` importable, before all else, here and in this process's children.

    Args:
        store: the run's folder.
        digest: the SHA-256 of the archive, in hex; "" if there is none.

    Returns:
        the folder of the unpacked code; None without a digest.

    Raises:
        UserCodeError: the archive has another digest, or would write outside its folder.
        StorageError: there is no archive, or the storage did not answer.
    """
    if not digest:
        return None
    folder = fetch(store, digest)
    sys.path[:] = [str(folder), *(entry for entry in sys.path if entry != str(folder))]
    prepend_python_path(str(folder))
    importlib.invalidate_caches()  # Python may have seen that the folder, now on its path, was not there
    return folder


def fetch(store: Store, digest: str) -> Path:
    """Return the folder of the unpacked archive, which is complete whenever it exists.

    Raises:
        InputError: `digest` is not a SHA-256 in hex. UserCodeError, StorageError: as `install`.
    """
    if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise InputError(f"{CODE} must be the SHA-256 of the code's archive, in hex, not {digest!r}")
    root = _root()
    folder = root / digest
    with Path(root, f"{digest}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=root) as temp:
                archive = Path(temp, "code.zip")
                store.get_file(f"code/{digest}.zip", archive)
                _check(archive, digest, f"{store.uri}/code/{digest}.zip")
                unpacked = Path(temp, "code")
                _unpack(archive, unpacked)
                unpacked.rename(folder)
    return folder


def _root() -> Path:
    """Return a folder that only this user can write, since what is in it gets imported."""
    root = Path(tempfile.gettempdir(), FOLDER)
    if not make_private_folder(root):
        raise InputError(f"{root} is not a folder that only this user can write: remove it, or set TMPDIR")
    return root


def _check(archive: Path, digest: str, where: str) -> None:
    with archive.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if actual != digest:
        raise UserCodeError(
            f"{where} is not the code that was submitted: its SHA-256 is {actual}; submit the run again"
        )


def _unpack(archive: Path, folder: Path) -> None:
    folder.mkdir()
    try:
        with zipfile.ZipFile(archive) as packed:
            for member in packed.infolist():
                path = PurePosixPath(member.filename)
                if path.is_absolute() or ".." in path.parts or "\\" in member.filename:
                    raise UserCodeError(f"the code's archive has a file outside its folder: {member.filename!r}")
            packed.extractall(folder)
    except zipfile.BadZipFile as error:
        shutil.rmtree(folder)
        raise UserCodeError(f"the code's archive is not a zip file: {error}") from error
