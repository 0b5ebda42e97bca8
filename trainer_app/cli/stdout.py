"""Standard output whose reader is gone."""

from __future__ import annotations

import os
import sys
from typing import Final

# 128 + SIGPIPE, what a shell reports for any command whose reader is gone.
READER_GONE: Final = 141


def forget_stdout() -> None:
    """Discard what is left to print: Python's flush at exit would print a second error."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    os.close(devnull)
