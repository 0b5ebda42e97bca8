"""Tar archives of data, unpacked without trust: what would be written elsewhere, and links, are refused."""

from __future__ import annotations

import re
import tarfile
import zlib
from lzma import LZMAError
from pathlib import Path, PurePosixPath

from trainer_app.examples.data.idx import DataError

SUFFIX = re.compile(r"\.(tar|tar\.(gz|bz2|xz)|tgz|tbz2|txz)$", re.IGNORECASE)


def is_archive(name: str) -> bool:
    """Return whether a file's name is that of a tar archive."""
    return SUFFIX.search(name) is not None


def unpack(path: Path, folder: Path, *, name: str | None = None) -> None:
    """Unpack a tar archive into a new folder.

    Args:
        path: the archive.
        folder: is made.
        name: what a user calls the archive; None is its path.

    Raises:
        DataError: it is damaged, or has a member that is no file or folder, or that lies outside.
    """
    name = name or str(path)
    folder.mkdir()
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                if not _is_hidden(member.name):
                    _check(member, name)
                    archive.extract(member, folder, filter="data")
    except (tarfile.TarError, EOFError, zlib.error, LZMAError) as e:
        why = str(e).partition("\n")[0].rstrip(":")
        raise DataError(f"{name}: not a complete tar archive: {why}; fetch it again") from e


def _check(member: tarfile.TarInfo, name: str) -> None:
    parts = PurePosixPath(member.name)
    if member.issym() or member.islnk():
        raise DataError(f"{name}: {member.name!r} is a link; pack files only (tar --dereference)")
    if not (member.isreg() or member.isdir()):
        raise DataError(f"{name}: {member.name!r} is neither a file nor a folder; pack files only")
    if parts.is_absolute() or ".." in parts.parts:
        raise DataError(f"{name}: {member.name!r} lies outside of the archive's folder; pack with relative names")


def _is_hidden(member: str) -> bool:
    """Return whether a part of the name begins with a dot, as what macOS adds does; `./` and `../` do not count."""
    return any(part.startswith(".") and part not in (".", "..") for part in member.split("/"))
