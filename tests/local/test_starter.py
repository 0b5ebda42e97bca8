"""What `trainer init` writes trains at once, as a new user would do it: a process each, no network."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.local.commands import Place
from trainer_app.results import load_run

pytestmark = pytest.mark.local


def test_a_new_project_trains(tmp_path: Path) -> None:
    with Place() as place:
        place.run("init", "demo", cwd=tmp_path)
        place.run("train", "demo/run.yaml", "--name", "first", "--test", cwd=tmp_path)
    first = load_run(str(tmp_path / "runs"), "first")
    assert first.record.state == "succeeded" and len(first.fits[0].history) == 10
    assert first.checkpoint is not None and first.checkpoint.metrics["val_accuracy"] > 0.9


@pytest.mark.full
def test_a_new_project_is_tuned(tmp_path: Path) -> None:
    with Place() as place:
        place.run("init", "demo", cwd=tmp_path)
        place.run("tune", "demo/run.yaml", "demo/tune.yaml", "--name", "sweep", "--test", cwd=tmp_path)
    sweep = load_run(str(tmp_path / "runs"), "sweep")
    assert sweep.record.state == "succeeded" and len(sweep.trials) == 8
