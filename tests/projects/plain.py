"""`python SCRIPT ARGUMENTS` as its user runs it, and a file with the metrics that its first fit ended with.

Usage: python plain.py FILE SCRIPT [ARGUMENTS...]
"""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer


def main(file: Path, script: str, arguments: list[str]) -> None:
    """Run the script with a `Trainer.fit` that writes `callback_metrics` to `file`."""
    fit = Trainer.fit

    def recorded(trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        fit(trainer, *args, **kwargs)
        if not file.exists():
            file.write_text(json.dumps({key: float(value) for key, value in trainer.callback_metrics.items()}))

    Trainer.fit = recorded
    sys.argv = [script, *arguments]
    sys.path[0] = str(Path(script).absolute().parent)
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
