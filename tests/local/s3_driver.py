"""Train, tune and resume runs on one Ray whose processes have the environment's keys; prints what happened.

python -m tests.local.s3_driver STORAGE
"""

from __future__ import annotations

import json
import sys
from typing import Any

from tests.local.runs import Ran, run_file
from trainer_app.config import RunConfig
from trainer_app.run import cluster

LR = "model.init_args.lr"


def train_file(uri: str, *, epochs: int) -> RunConfig:
    return run_file(uri, trainer={"max_epochs": epochs}, checkpoint={"monitor": "val_acc", "mode": "max"})


def tune_file(uri: str, *, samples: int) -> RunConfig:
    space = {LR: {"loguniform": [0.01, 0.3]}}
    block = {"metric": "val_acc", "mode": "max", "num_samples": samples, "space": space}
    return run_file(uri, trainer={"max_epochs": 2}, tune=block)


def main(uri: str) -> None:
    done: dict[str, Any] = {}

    def note(name: str, ran: Ran) -> None:
        done[name] = {"code": ran.code, "events": ran.events}

    with cluster.connected():
        note("train", Ran("train", train_file(uri, epochs=2), "fit"))
        note("longer", Ran("train", train_file(uri, epochs=4), "fit", resume=True))
        note("tune", Ran("tune", tune_file(uri, samples=2), "sweep"))
        note("more", Ran("tune", tune_file(uri, samples=3), "sweep", resume=True))
    print(json.dumps(done))


if __name__ == "__main__":
    main(sys.argv[1])
