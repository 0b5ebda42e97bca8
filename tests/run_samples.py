"""Runs in storage as the drivers leave them, written by the records' own code."""

from __future__ import annotations

import math
import time
from typing import Any

from trainer_app.config import RunConfig, loads
from trainer_app.records import FitFolder, RunFolder, RunRecord, TrialRecord, trial_name
from trainer_app.records.manifest import Manifest
from trainer_app.storage import Store

SWEEP_FILE = """
seed_everything: 7
model: {class_path: m.M}
trainer: {max_epochs: %d}
tune:
  metric: loss
  mode: min
  num_samples: %d
  scheduler: %s
  searcher: %s
  space: {model.init_args.lr: {uniform: [0.0, 1.0]}}
"""


def sweep_config(
    scheduler: str = "asha", searcher: str = "random", *, epochs: int = 3, num_samples: int = 200
) -> RunConfig:
    """A sweep of a learning rate."""
    return loads(SWEEP_FILE % (epochs, num_samples, scheduler, searcher))


def commit(
    fit_folder: FitFolder,
    epochs: int,
    metrics: dict[str, float],
    *,
    size: int = 10,
    began: float = 7.0,
    seconds: float = 0.0,
) -> str:
    """A checkpoint after that many epochs; returns its name."""
    name = f"a0001-e{epochs:06d}-s{epochs * 10:09d}"
    store = fit_folder.checkpoints.child(name)
    store.put("checkpoint.ckpt", b"\x80\x04cos\nsystem\n"[:size].ljust(size, b"."))
    manifest = Manifest.model_validate(
        {
            "epochs": epochs,
            "step": epochs * 10,
            "attempt": 1,
            "world_size": 1,
            "time": began,
            "seconds": seconds,
            "metrics": metrics,
            "objects": {"checkpoint.ckpt": {"size": size, "sha256": "0" * 64}},
            "name": name,
        }
    )
    store.put("manifest.json", manifest.to_json())
    return name


def epoch(
    fit_folder: FitFolder, number: int, metrics: dict[str, float], *, attempt: int = 1, at: float | None = None
) -> None:
    line = {"epoch": number, "step": 10 * (number + 1), "time": at or time.time(), "elapsed": 1.5, "metrics": metrics}
    fit_folder.append_epoch(attempt, line)


def train_run(storage: Store, name: str = "fashion-1", **fields: Any) -> RunFolder:
    """Three of five epochs; the best is the second, its checkpoint is kept."""
    record = RunRecord(name=name, task="train", metric="val/acc", mode="max", epochs=5, seed=42)
    folder = RunFolder.create(storage, record.model_copy(update=fields), "name: fashion\n")
    fit_folder = folder.fit_folder()
    for number, value in enumerate((0.5, 0.9, 0.7)):
        metrics = {"val/acc": value, "train_loss": 1.0 - value, "train_loss_step": 3.0, "epoch": float(number)}
        epoch(fit_folder, number, metrics)
        commit(fit_folder, number + 1, metrics)
    return folder


def tune_run(storage: Store, name: str = "mnist-1", **fields: Any) -> RunFolder:
    """Four trials: stopped, the best, failed without a number, pending."""
    record = RunRecord(name=name, task="tune", metric="val/acc", mode="max", epochs=3, num_samples=4)
    folder = RunFolder.create(storage, record.model_copy(update=fields), "name: mnist\n")
    trial(folder, 0, [0.7], state="stopped", reason="ASHA at epoch 1")
    trial(folder, 1, [0.8, 0.95, 0.9], state="finished", reason="all epochs done")
    trial(folder, 2, [math.nan], state="failed", error="ValueError: lr | too\nhigh")
    trial(folder, 3, [], state="pending")
    return folder


def trial(folder: RunFolder, index: int, values: list[float], **fields: Any) -> None:
    """A trial with these values of val/acc, a checkpoint after each epoch but the last best one's."""
    name = trial_name(index)
    fit_folder = folder.fit_folder(name)
    for number, value in enumerate(values):
        epoch(fit_folder, number, {"val/acc": value})
        if value != 0.95:
            commit(fit_folder, number + 1, {"val/acc": value})
    params = {"model.init_args.lr": 0.1 / (index + 1), "model.init_args.layer_1": 32 * index, "data.init_args.size": 8}
    folder.write_trial(TrialRecord(trial=name, index=index, params=params, epochs=len(values), **fields))
