"""The text files of this project, for the tests that read the tree itself."""

import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Works in a checkout and in an unpacked archive: git is not asked.
LEFT_OUT = {".git", ".venv", "__pycache__", "dist", "build", "runs", "data", "results", "lightning_logs"}
CACHES = "_cache"


def files(*suffixes: str) -> Iterator[tuple[str, str]]:
    """(path from the root, text) of every text file of the project, or of those that end in one of the suffixes."""
    for folder, names, leaves in os.walk(ROOT):
        names[:] = sorted(n for n in names if n not in LEFT_OUT and not n.endswith((CACHES, ".egg-info")))
        for leaf in sorted(set(leaves) - LEFT_OUT):  # .git is a file in a worktree
            path = Path(folder, leaf)
            if leaf.endswith(suffixes or "") and path.stat().st_size < 1_000_000:
                try:
                    yield path.relative_to(ROOT).as_posix(), path.read_text()
                except UnicodeDecodeError:
                    continue  # a picture or an archive: no text to read
