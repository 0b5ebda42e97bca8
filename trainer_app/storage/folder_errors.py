"""Errors of folders in words for users: what failed, where, what to do."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trainer_app.errors import (
    AccessDeniedError,
    AlreadyExistsError,
    NotFoundError,
    StorageError,
    StorageUnavailableError,
)

# All others may pass: a mount or a disk that comes back.
_COMES_AGAIN = {errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL, errno.EFBIG}


@contextmanager
def translate_errors(path: Path, verb: str) -> Iterator[None]:
    """Turn an OSError into the error that says what failed, where, and what to do."""
    try:
        yield
    except FileExistsError as error:
        if verb == "write" and not _file_above(path) and not path.is_dir() and not _leads_nowhere(path):
            raise AlreadyExistsError(f"{path} exists already") from error
        raise StorageError(_obstacle(path)) from error
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no {path}") from error
    except (NotADirectoryError, IsADirectoryError) as error:
        if verb == "read":
            raise NotFoundError(f"there is no object {path}: {_obstacle(path)}") from error
        raise StorageError(_obstacle(path)) from error
    except OSError as error:
        if error.errno == errno.ELOOP and verb == "read":
            raise NotFoundError(f"there is no object {path}: {_obstacle(path)}") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            why = "the file system is read-only" if error.errno == errno.EROFS else "no permission"
            raise AccessDeniedError(
                f"can't {verb} {path}: {why}; give this user access to the folder or choose another storage.uri"
            ) from error
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageUnavailableError(
                f"can't {verb} {path}: the disk is full or a quota is reached; free space or choose another storage.uri"
            ) from error
        kind = StorageError if error.errno in {None, *_COMES_AGAIN} else StorageUnavailableError
        raise kind(f"can't {verb} {path}: {error.strerror or error}") from error


def _file_above(path: Path) -> Path | None:
    """Return the file that is where a folder of this path should be."""
    return next((p for p in reversed(path.parents) if p.exists() and not p.is_dir()), None)


def _leads_nowhere(path: Path) -> bool:
    """Return whether it is a link to nothing, or to itself."""
    return path.is_symlink() and not path.exists()


def _obstacle(path: Path) -> str:
    blocker = _file_above(path) or path
    if _leads_nowhere(path):
        return f"{path} is a link that leads nowhere; remove it"
    if blocker.is_dir():
        return f"{path} is a folder where an object should be"
    return f"{blocker} is a file where a folder should be; move it away or choose another storage.uri"
