"""The driver's command on a RayCluster of another release, whose head has no file of this run.

    python -m trainer_app.pod.run_file train --log -

The run file comes in the job's environment; this writes it down and becomes `trainer train FILE --log -`.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Final

VARIABLE: Final = "TRAINER_RUN_FILE"


def write_run_file(words: list[str], text: str) -> list[str]:
    """`trainer <task> FILE <the other words>`, with the text in FILE: a new one, under the temporary folder."""
    path = Path(tempfile.mkdtemp(prefix="trainer-"), "run.yaml")
    path.write_bytes(text.encode())
    return ["trainer", words[0], str(path), *words[1:]]


def main() -> int:
    """Does not come back, unless there is nothing to start: 2."""
    text = os.environ.get(VARIABLE)
    if not text or len(sys.argv) < 2:
        print(f"error: this needs the run file in {VARIABLE}, and train or tune as its first word", file=sys.stderr)
        return 2
    words = write_run_file(sys.argv[1:], text)
    return os.execvp(words[0], words)  # the process is another one from here


if __name__ == "__main__":
    sys.exit(main())
