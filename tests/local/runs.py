"""Runs of the toy in this process, on the session's Ray, and what they did."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from trainer_app import results
from trainer_app.config import RunConfig, loads, override
from trainer_app.training import driver
from trainer_app.tuning import sweep

Event = dict[str, Any]


def run_file(storage: Path | str, /, **blocks: Any) -> RunConfig:
    """The toy's run file with some blocks given and dotted keys changed (double underscores for dots)."""
    base: dict[str, Any] = {
        "name": "toy",
        "seed_everything": 7,
        "model": {"class_path": "tests.local.toy.Toy", "init_args": {}},
        "data": {"class_path": "tests.local.toy.ToyData", "init_args": {}},
        "trainer": {"max_epochs": 3},
        "scaling": {"use_gpu": False},
        "storage": {"uri": str(storage)},
    }
    changes = blocks.pop("changes", {})
    base.update(blocks)
    return override(loads(yaml.safe_dump(base)), changes)


class Ran:
    """One attempt of a run: its exit code, its events, and its results as storage has them."""

    def __init__(self, task: str, config: RunConfig, name: str, *, resume: bool = False, test: bool = False) -> None:
        self.events: list[Event] = []
        self.uri = config.storage.uri
        self.name = name
        verb = driver.run if task == "train" else sweep.run
        self.code = verb(config, name=name, resume=resume, emit=self.events.append, log=None, test=test)

    def of(self, kind: str) -> list[Event]:
        return [e for e in self.events if e["event"] == kind]

    @property
    def results(self) -> results.RunResults:
        return results.load_run(self.uri, self.name)

    def history(self, trial: str | None = None) -> list[dict[str, Any]]:
        return next(u.history for u in self.results.fits if u.trial == trial)

    def metrics(self, trial: str | None = None) -> list[dict[str, float]]:
        """Metrics by epoch, without times."""
        return [line["metrics"] for line in self.history(trial)]


def ledger(folder: Path) -> list[dict[str, Any]]:
    """What the workers noted: epoch, rank, step and sample ids of every step."""
    lines = [json.loads(line) for f in sorted(folder.glob("*.jsonl")) for line in f.read_text().splitlines()]
    return sorted(lines, key=lambda line: (line["epoch"], line["step"], line["rank"]))
