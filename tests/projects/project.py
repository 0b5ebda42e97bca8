"""A project of this folder: its own command, and what `trainer` gets."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
NAMES = sorted(path.parent.name for path in FOLDER.glob("*/project.yaml"))
PLAIN_S, SESSION_S = 240.0, 540.0  # 8 s and 45 s on idle cores; busy ones took 10 times as long
PLAIN_METRICS = "plain-metrics.json"
TENSORBOARD = re.compile(r"tfevents\..*")  # a time and a host follow
DROPPED = ("AWS_", "TRAINER_", "RAY_", "TUNE_", "PYTHONDONTWRITEBYTECODE", "PYTHONPATH")


@dataclass(frozen=True)
class Project:
    """What `project.yaml` says."""

    name: str
    plain: str  # what follows `python` in the project's own command
    trainer: str  # what follows `trainer train`
    metric: str
    expected: float  # the metric at the end of the plain command
    within: float  # how far from it another machine, or two workers, may end
    sweep: dict[str, Any]  # mode and space
    env: dict[str, str] = field(default_factory=dict)  # that the plain command needs
    after_fit: list[str] = field(default_factory=list)  # files that are written by what follows the fit
    two_workers: list[str] = field(default_factory=list)  # overrides for two devices, as in plain Lightning

    def copy(self, folder: Path) -> Path:
        """Return a copy of the project's own files in `folder`."""
        ignored = shutil.ignore_patterns("__pycache__", "project.yaml")
        return shutil.copytree(FOLDER / self.name, folder / self.name, ignore=ignored)

    @property
    def environment(self) -> dict[str, str]:
        """This process's environment, less what would steer `trainer`, with one thread: sums keep their order."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(DROPPED)}
        return {**kept, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **self.env}

    def run_plain(self, folder: Path) -> dict[str, float]:
        """Run the project's own command in its folder, and return the metrics that its fit ended with."""
        file = folder / PLAIN_METRICS
        command = [sys.executable, str(FOLDER / "plain.py"), str(file), *self.plain.split()]
        self._run(command, folder, PLAIN_S)
        metrics: dict[str, float] = json.loads(file.read_text())
        return metrics

    def run_trainer(self, folder: Path) -> None:
        """Train with one worker (run `one`) and with two (`two`), and tune (`sweep`), in the project's folder."""
        tune = {"metric": self.metric, "num_samples": 3, **self.sweep}
        runs = [
            ["train", *self.trainer.split(), "--name", "one"],
            ["train", *self.trainer.split(), "--name", "two", "scaling.num_workers=2", *self.two_workers],
            ["tune", *self.trainer.split(), "--name", "sweep", f"tune={json.dumps(tune)}"],
        ]
        command = [
            sys.executable,
            str(FOLDER / "session.py"),
            json.dumps([[*run, "scaling.use_gpu=false"] for run in runs]),
        ]
        self._run(command, folder, SESSION_S, TRAINER_NUM_CPUS="2", PYTHONPATH=str(ROOT))

    def _run(self, command: list[str], folder: Path, seconds: float, **env: str) -> None:
        """Run a command to its end, which is a good one."""
        done = subprocess.run(
            command, cwd=folder, env={**self.environment, **env}, capture_output=True, text=True, timeout=seconds
        )
        assert done.returncode == 0, (
            f"{self.name}: exit {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-5000:]}"
        )


def load(name: str) -> Project:
    """Return the project of a folder."""
    return Project(name, **yaml.safe_load((FOLDER / name / "project.yaml").read_text()))


def last_metrics(history: list[dict[str, Any]]) -> dict[str, float]:
    """Return the last value of each metric of a run's epochs, as a Trainer's `callback_metrics` have them."""
    metrics: dict[str, float] = {}
    for line in history:
        metrics |= line["metrics"]
    return metrics


def written_files(folder: Path, name: str) -> dict[str, Path]:
    """Return what a run of a project wrote: {path: file}, less the project's own, Python's, our own and checkpoints.

    Args:
        folder: in which it ran.
        name: the project's.
    """
    left_out = {"__pycache__", "runs", "config.yaml", PLAIN_METRICS}  # a run has run.yaml
    files = {path.relative_to(folder): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {
        TENSORBOARD.sub("tfevents", path.as_posix()): file
        for path, file in files.items()
        if not (FOLDER / name / path).exists() and not left_out & {*path.parts} and path.suffix != ".ckpt"
    }
