"""Sweeps whose trials have two workers each."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.local.runs import Ran, run_file

pytestmark = [pytest.mark.local, pytest.mark.usefixtures("ray_session"), pytest.mark.timeout(400)]

LR = "model.init_args.lr"


class Watch:
    """Asks Ray's controller, every half second, which workers and placement groups are alive."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, int, int]] = []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watch:
        self.thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.over.set()
        self.thread.join()

    def _run(self) -> None:
        while not self.over.wait(0.5):
            self.seen.append((time.time(), workers(), groups()))


def workers() -> int:
    """Live Train worker actors. From the GCS's own table, which the state API shows: no dashboard runs here."""
    from ray._private.state import actors

    return sum(a["ActorClassName"] == "RayTrainWorker" and a["State"] == "ALIVE" for a in actors().values())


def groups() -> int:
    """Placement groups that hold resources."""
    from ray.util import placement_group_table

    return sum(g["state"] == "CREATED" for g in placement_group_table().values())


@pytest.fixture(scope="module")
def nested(tmp_path_factory: pytest.TempPathFactory, ray_session: None) -> tuple[Ran, Watch, float]:
    config = run_file(
        tmp_path_factory.mktemp("nested"),
        scaling={"num_workers": 2, "use_gpu": False},
        trainer={"max_epochs": 4},
        tune={
            "metric": "val_acc",
            "mode": "max",
            "num_samples": 1,
            "space": {LR: {"grid_search": [0.3, 0.2, 1e-9, 1e-8]}},
            "scheduler": {"asha": {"max_t": 4, "grace_period": 1, "reduction_factor": 2}},
        },
        changes={"model.init_args.sleep": 1.0},
    )
    started = time.monotonic()
    with Watch() as watch:
        ran = Ran("tune", config, "nested")
    return ran, watch, time.monotonic() - started


def test_four_nested_trials_with_asha(nested: tuple[Ran, Watch, float]) -> None:
    ran, _, seconds = nested
    assert ran.code == 0 and seconds <= 240
    states = {t.trial: t.record.state for t in ran.results.trials if t.record}
    assert len(states) == 4 and "stopped" in states.values() and "finished" in states.values()
    for trial in ran.results.trials:
        assert [line["epoch"] for line in trial.history] == list(range(trial.epochs))
        assert trial.checkpoints and trial.history[0]["metrics"]["rank"] == 0.5  # both workers took part


def test_a_stopped_trials_workers_and_placement_group_are_gone(nested: tuple[Ran, Watch, float]) -> None:
    """4 CPUs hold two trials of two workers: their workers and groups, and the two that wait for them."""
    ran, watch, _ = nested
    assert max(alive for _, alive, _ in watch.seen) == 4
    records = [t.record for t in ran.results.trials if t.record]
    ends = [r.ended for r in records if r.state == "stopped" and r.ended]
    assert ends
    for end in ends:
        # Another trial has its workers for up to 5 s after its end is recorded.
        running = sum((r.started or 0) <= end + 11 and (r.ended or 0) > end + 4 for r in records)
        later = [alive for at, alive, _ in watch.seen if end + 9 <= at <= end + 11]
        assert not later or min(later) <= 2 * running
    deadline = time.time() + 10
    while (workers() or groups()) and time.time() < deadline:
        time.sleep(0.2)
    assert (workers(), groups()) == (0, 0)


@pytest.mark.full
def test_a_nested_trial_that_fails_does_not_end_the_sweep(tmp_path: Path) -> None:
    config = run_file(
        tmp_path,
        scaling={"num_workers": 2, "use_gpu": False},
        trainer={"max_epochs": 1},
        failure={"max_failures": 0},
        tune={
            "metric": "val_acc",
            "mode": "max",
            "num_samples": 1,
            "space": {"model.init_args.fail_at": {"grid_search": [0, 9]}},
        },
    )
    ran = Ran("tune", config, "partly")
    assert ran.code == 0
    first, second = ran.results.trials
    assert first.record and first.record.state == "failed"
    assert first.record.error == "PlannedFailure: planned failure in epoch 0 (tests/local/toy.py:122)"
    assert second.record and second.record.state == "finished"
