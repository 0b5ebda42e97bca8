"""The text files of this project, for the tests that read the tree itself."""

import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Works in a checkout and in an unpacked archive: git is not asked.
LEFT_OUT = {".git", ".venv", "__pycache__", "dist", "build", "lightning_logs"}
OUTPUT = {"runs", "data", "results"}  # at the root only: trainer_app/results is code
CACHES = "_cache"


def files(*suffixes: str) -> Iterator[tuple[str, str]]:
    """(path from the root, text) of every text file of the project, or of those that end in one of the suffixes."""
    for folder, names, leaves in os.walk(ROOT):
        left_out = LEFT_OUT | OUTPUT if folder == str(ROOT) else LEFT_OUT
        names[:] = sorted(n for n in names if n not in left_out and not n.endswith((CACHES, ".egg-info")))
        for leaf in sorted(set(leaves) - LEFT_OUT):  # .git is a file in a worktree
            path = Path(folder, leaf)
            if leaf.endswith(suffixes or "") and path.stat().st_size < 1_000_000:
                try:
                    yield path.relative_to(ROOT).as_posix(), path.read_text()
                except UnicodeDecodeError:
                    continue  # a picture or an archive: no text to read
