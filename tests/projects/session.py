"""Several commands of `trainer` on one Ray, which is started once: python session.py '[["train", "run.yaml"], ...]'."""

from __future__ import annotations

import json
import sys

from trainer_app.__main__ import main
from trainer_app.run import cluster


def run(commands: list[list[str]]) -> int:
    """Run them in turn; return the number of those that failed, each with a line on stderr."""
    failed = 0
    with cluster.connected():
        for words in commands:
            code = main(words)
            if code:
                print(f"exit code {code}: trainer {' '.join(words)}", file=sys.stderr)
            failed += code != 0
    return failed


if __name__ == "__main__":
    del sys.path[0]  # this folder
    sys.exit(run(json.loads(sys.argv[1])))
