"""Which commit has the tensors of a checkpoint file: the state is in storage then, and the file need not be."""

from __future__ import annotations

import zipfile
from collections.abc import Collection
from pathlib import Path, PurePosixPath

Checksums = frozenset[tuple[int, int]]


class CommittedTensors:
    """The tensors of the commits that a fit has made."""

    def __init__(self) -> None:
        self._by_commit: dict[str, Checksums] = {}

    def add(self, commit: str, path: Path) -> None:
        """Note the tensors of a commit, given its local file."""
        self._by_commit[commit] = read_checksums(path)

    def find_commit(self, path: Path, kept: Collection[str]) -> str | None:
        """Return the newest commit in `kept` that has all tensors of this file; None if there is none."""
        tensors = read_checksums(path)
        names = [name for name, held in [*self._by_commit.items()] if name in kept and tensors <= held]
        return names[-1] if tensors and names else None


def read_checksums(path: Path) -> Checksums:
    """Return (CRC-32, size) of each tensor in a file of torch.save, which is a zip; empty for any other file."""
    try:
        with zipfile.ZipFile(path) as packed:
            members = [one for one in packed.infolist() if PurePosixPath(one.filename).parent.name == "data"]
    except (OSError, zipfile.BadZipFile):
        return frozenset()
    return frozenset((one.CRC, one.file_size) for one in members)
