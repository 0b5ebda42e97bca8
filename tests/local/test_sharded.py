"""FSDP2 on real Ray workers: commits of many objects, a lost worker, another number of workers, the test split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.local.runs import Ran, run_file
from trainer_app.config import RunConfig

pytestmark = [pytest.mark.local, pytest.mark.usefixtures("ray_session"), pytest.mark.timeout(600)]


def sharded_file(folder: Path, *, workers: int, epochs: int, **model: Any) -> RunConfig:
    return run_file(
        folder / "runs",
        model={"class_path": "tests.sharded_model.Transformer", "init_args": {"once": str(folder / "once"), **model}},
        data={"class_path": "tests.sharded_model.Tokens"},
        trainer={"max_epochs": epochs, "strategy": "fsdp2", "logger": False},
        scaling={"num_workers": workers, "use_gpu": False},
        checkpoint={"keep": None},
        failure={"max_failures": 1},
    )


def commits_of(ran: Ran) -> list[tuple[str, int]]:
    """The name of each commit, and how many shards it has."""
    folders = sorted(Path(ran.uri, ran.name, "checkpoints").iterdir())
    return [(folder.name, len([path for path in folder.iterdir() if path.suffix == ".distcp"])) for folder in folders]


def test_a_sharded_run_loses_a_worker_resumes_and_is_tested(tmp_path: Path) -> None:
    ran = Ran("train", sharded_file(tmp_path, workers=2, epochs=3, kill_at=2), "two", test=True)
    assert ran.code == 0 and (tmp_path / "once").exists()
    assert [line["epoch"] for line in ran.history()] == [0, 1, 2]
    assert [name.partition("-e")[0] for name, _ in commits_of(ran)] == ["a0001", "a0001", "a0002"]
    assert [count for _, count in commits_of(ran)] == [2, 2, 2]
    (tested,) = ran.of("test")
    assert tested["metrics"]["test_loss"] > 0


@pytest.mark.full
def test_four_then_two_then_three_workers(tmp_path: Path) -> None:
    losses = []
    for epochs, workers in enumerate((4, 2, 3), start=1):
        config = sharded_file(tmp_path, workers=workers, epochs=epochs)
        ran = Ran("train", config, "many", resume=epochs > 1)
        assert ran.code == 0
        losses.append(ran.metrics()[-1]["loss"])
    assert [count for _, count in commits_of(ran)] == [4, 2, 3] and losses == sorted(losses, reverse=True)
