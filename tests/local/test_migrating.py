"""docs/migrating.md: the code from before and the run file after it are run, and log the same."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.local.commands import Place
from tests.migrating import LIGHTNING, SCRIPT, TORCH, TUNER, Section
from trainer_app.results import load_run
from trainer_app.results.model import RunResults

pytestmark = [pytest.mark.local, pytest.mark.full]


def run_before(section: Section, folder: Path, place: Place, more: str = "") -> None:
    script = section.before.replace("/tmp/runs", str(folder / "before")) + more
    (folder / "train.py").write_text(script)
    path = os.pathsep.join([str(folder), place.env["PYTHONPATH"]])
    env = {**place.env, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "train.py"], cwd=folder, env=env, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr[-3000:]


def run_after(section: Section, task: str, folder: Path, place: Place) -> RunResults:
    (folder / "run.yaml").write_text(section.after)
    done = place.run(task, "run.yaml", "--name", "after", f"storage.uri={folder / 'runs'}", cwd=folder)
    assert done.code == 0, done.err
    return load_run(str(folder / "runs"), "after")


@pytest.fixture
def place(tmp_path: Path) -> Any:
    with Place({"RAY_AIR_NEW_OUTPUT": "0"}) as place:
        place.run("init", ".", cwd=tmp_path)
        yield place


def test_a_script_with_a_trainer(tmp_path: Path, place: Place) -> None:
    run_before(SCRIPT, tmp_path, place)
    (log,) = tmp_path.glob("logs/lightning_logs/version_0/metrics.csv")
    before = [float(row["val_loss"]) for row in csv.DictReader(log.open()) if row["val_loss"]]
    after = [line["metrics"]["val_loss"] for line in run_after(SCRIPT, "train", tmp_path, place).fits[0].history]
    assert len(before) == 4 and after == pytest.approx(before, rel=1e-5)


def test_a_torch_trainer(tmp_path: Path, place: Place) -> None:
    wrote = "\nimport json\nopen('metrics.json', 'w').write(json.dumps(result.metrics))\n"
    run_before(TORCH, tmp_path, place, wrote)
    before = json.loads((tmp_path / "metrics.json").read_text())
    after = run_after(TORCH, "train", tmp_path, place).fits[0].history
    assert len(after) == 3
    for name in ("val_loss", "val_accuracy", "train_loss"):
        assert after[-1]["metrics"][name] == pytest.approx(before[name], rel=1e-5)


def test_a_lightning_trainer(tmp_path: Path, place: Place) -> None:
    """Ray has it no more: only what comes after it runs."""
    after = run_after(LIGHTNING, "train", tmp_path, place)
    assert after.record.state == "succeeded" and len(after.fits[0].checkpoints) == 3


def test_a_tuner_of_a_torch_trainer(tmp_path: Path, place: Place) -> None:
    """What was before ends with an error on Ray's Train V2: only what comes after it runs."""
    after = run_after(TUNER, "tune", tmp_path, place)
    assert after.record.state == "succeeded" and len(after.trials) == 2 and after.checkpoint is not None
