"""The driver's command on another release's RayCluster, whose head does not mount this run's file.

    python -m trainer_app.pod.run_file train --log -

The run file comes in the Ray job's environment; this writes it to a file and becomes `trainer train FILE --log -`.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Final

VARIABLE: Final = "TRAINER_RUN_FILE"


def write_run_file(arguments: list[str], text: str) -> list[str]:
    """Write the run file into a new temporary folder; return `trainer <task> FILE <other arguments>`."""
    path = Path(tempfile.mkdtemp(prefix="trainer-"), "run.yaml")
    path.write_bytes(text.encode())
    return ["trainer", arguments[0], str(path), *arguments[1:]]


def main() -> int:
    """Become the driver; return 2 if the run file or the task is missing."""
    text = os.environ.get(VARIABLE)
    if not text or len(sys.argv) < 2:
        print(f"error: this needs the run file in {VARIABLE}, and train or tune as its first argument", file=sys.stderr)
        return 2
    command = write_run_file(sys.argv[1:], text)
    return os.execvp(command[0], command)  # does not return


if __name__ == "__main__":
    sys.exit(main())
