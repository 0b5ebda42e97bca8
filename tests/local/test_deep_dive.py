"""The whole Trainer of the page "PyTorch Lightning Training — Deep Dive" on two workers of a real local Ray."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.deep_dive import run_file
from tests.local.commands import Place
from tests.unit.test_deep_dive_trainer import NAMED, kept_names
from trainer_app.config import loads
from trainer_app.results import load_run
from trainer_app.storage import open_store

pytestmark = [pytest.mark.local, pytest.mark.full]

GROWS = "{class_path: trainer_app.callbacks.DynamicBatchSize, init_args: {initial: 2, increase_every: 2}}"
MEASURES = "{class_path: trainer_app.callbacks.Throughput}"
# Dotted keys, the steps after each epoch, and a metric that each epoch has.
RUNS = {
    "32-true": ([], [2, 4, 6, 8], "lr-AdamW"),
    "bf16-mixed": ([], [2, 4, 6, 8], "gradients/backbone.weight_norm"),
    "grows": ([f"trainer.callbacks+={GROWS}", f"trainer.callbacks+={MEASURES}"], [3, 6, 8, 10], "memory/process_gib"),
    "fast": (["trainer.fast_dev_run=true"], [1], "val/f1"),
}


@pytest.mark.parametrize("name", RUNS)
def test_it_trains_on_two_workers(name: str, tmp_path: Path) -> None:
    overrides, steps, metric = RUNS[name]
    (tmp_path / "run.yaml").write_text(run_file(name if name in ("32-true", "bf16-mixed") else "bf16-mixed"))
    with Place() as place:
        place.run("train", "run.yaml", *overrides, "--name", "deep", cwd=tmp_path)
    (fit,) = load_run(str(tmp_path / "runs"), "deep").fits
    assert [line["step"] for line in fit.history] == steps
    assert all(metric in line["metrics"] for line in fit.history)
    names = kept_names(open_store(str(tmp_path / "runs/deep/artifacts")))
    assert [key for key in names if key.startswith("profiler/fit-perf")]
    checkpoints = [key for key in names if NAMED.fullmatch(key)]
    assert len(checkpoints) == (0 if name == "fast" else 3), names


def test_a_batch_size_and_a_learning_rate_are_found_before_two_workers_start(tmp_path: Path) -> None:
    """Once: the second attempt, from the same file, has what the first one found."""
    find = "find: {batch_size: {max_trials: 2}, lr: {num_training: 20, min_lr: 1.0e-4}}\n"
    (tmp_path / "run.yaml").write_text(
        run_file("bf16-mixed").replace("accumulate_grad_batches: 4", "accumulate_grad_batches: 1") + find
    )
    with Place() as place:
        place.run("train", "run.yaml", "trainer.max_epochs=2", "--name", "deep", cwd=tmp_path)
        before = load_run(str(tmp_path / "runs"), "deep").record.resolved
        place.run("train", "run.yaml", "trainer.max_epochs=3", "--resume", "deep", cwd=tmp_path)
    run = load_run(str(tmp_path / "runs"), "deep")
    assert before["data.init_args.batch_size"] == 4 and 1e-4 < before["model.init_args.lr"] < 1
    assert run.record.resolved == before
    stored = loads((tmp_path / "runs/deep/run.yaml").read_text())
    assert stored.model is not None and stored.model["init_args"]["lr"] == before["model.init_args.lr"]
    first, *_, last = run.fits[0].history
    assert (first["epoch"], last["epoch"]) == (0, 2)
    assert 0 < first["metrics"]["lr-AdamW"] <= before["model.init_args.lr"]
