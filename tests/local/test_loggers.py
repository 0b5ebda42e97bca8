"""A sweep that logs to W&B (offline), MLflow and TensorBoard, all trials in one process; and `trainer tensorboard`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.local.runs import Ran
from tests.local.test_tune import sweep_file
from trainer_app.config import override

pytestmark = [pytest.mark.local, pytest.mark.usefixtures("ray_session")]
TRIALS = ("t00000", "t00001")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory, ray_session: None) -> Path:
    """Return the run's folder."""
    folder = tmp_path_factory.mktemp("logged")
    logger = [
        {"class_path": "WandbLogger", "init_args": {"project": "p", "offline": True}},
        {"class_path": "MLFlowLogger"},
        {"class_path": "TensorBoardLogger", "init_args": {"save_dir": "."}},
    ]
    config = sweep_file(
        folder / "runs", epochs=2, num_samples=2, max_concurrent_trials=1, metric="val/loss", mode="min"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        ran = Ran("tune", override(config, {"trainer.logger": logger}), "logged")
    assert ran.code == 0 and not ran.of("retry")  # a trial that leaves a file open gets the next one a new process
    assert [path.name for path in folder.iterdir()] == ["runs"]
    return folder / "runs/logged"


@pytest.mark.parametrize("trial", TRIALS)
def test_what_loggers_write_is_among_the_artifacts(sweep: Path, trial: str) -> None:
    kept, ids = sweep / "artifacts" / trial, json.loads((sweep / f"trials/{trial}/loggers.json").read_text())
    (wandb,) = kept.glob("wandb/offline-run-*/run-*.wandb")
    assert wandb.stem == f"run-{ids['0.WandbLogger']}" and b"val/loss" in wandb.read_bytes()
    (mlflow,) = kept.glob("mlruns/*/*/metrics/val/loss")
    assert mlflow.parts[-4] == ids["1.MLFlowLogger"] and len(mlflow.read_text().splitlines()) == 2
    assert (mlflow.parents[2] / "tags/trainer.run").read_text() == "logged"
    assert len(list(kept.glob("lightning_logs/version_0/events.out.tfevents.*"))) == 1


def test_tensorboard_shows_all_trials(sweep: Path) -> None:
    words = [sys.executable, "-m", "trainer_app", "tensorboard", str(sweep), "--port", "0"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, start_new_session=True) as server:
        try:
            assert server.stderr
            url = next(match[1] for line in server.stderr if (match := re.search(r"(http://127.0.0.1:\d+/)", line)))
            runs: list[str] = []
            deadline = time.monotonic() + 30
            while len(runs) < len(TRIALS) and time.monotonic() < deadline:
                time.sleep(0.2)
                with urllib.request.urlopen(f"{url}data/runs", timeout=10) as answer:
                    runs = json.load(answer)
            assert sorted(runs) == [f"{trial}/lightning_logs/version_0" for trial in TRIALS]
        finally:
            os.killpg(server.pid, 2)
            assert server.wait(20) == 0
