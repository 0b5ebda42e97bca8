"""How far a submitted run is: the line in its log."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from trainer_app import progress_line
from trainer_app.progress_line import Progress, parse_line
from trainer_app.results import progress
from trainer_app.results.progress import ProgressReporter
from trainer_app.results.view import RunView

pytestmark = pytest.mark.unit
START = 1_769_846_400.0  # 2026-01-31T08:00:00Z


class Run:
    """A run whose events come at times that a test chooses, and what is said of it."""

    def __init__(self, task: str, **first: Any) -> None:
        self.time, self.said = START, list[str]()
        self.view = RunView(task=task, run="demo", metric="val_accuracy", mode="max")
        self.reporter = ProgressReporter(self.view, self.said.append, now=lambda: self.time)
        self.event("run", **first)

    def event(self, kind: str, *, after: float = 0, **fields: Any) -> None:
        self.time += after
        self.view.apply({"event": kind, **fields})
        self.reporter.report({"event": kind, **fields})

    def epoch(self, number: int, value: float, *, after: float = 0, **fields: Any) -> None:
        self.event("epoch", after=after, epoch=number, metrics={"val_accuracy": value}, **fields)


@pytest.mark.parametrize(
    "said",
    [
        Progress("3/10 epochs", "3", "val_accuracy=0.91", "2026-01-31T08:09:10Z"),
        Progress("3 epochs", "3"),
        Progress("0/4 trials", "0", eta="2026-01-31T08:09:10Z"),
        Progress("3/4 trials", "7", "a metric, with a comma=1"),
    ],
)
def test_a_line_is_read_as_it_was_said(said: Progress) -> None:
    assert parse_line(f"{said}\n") == said


def test_a_training_says_epochs_the_best_value_and_when_it_ends() -> None:
    run = Run("train", epochs=10)
    run.epoch(0, 0.7, after=60)
    run.epoch(1, 0.9, after=60)
    run.epoch(2, 0.8, after=60)
    assert run.said == [
        "progress: 1/10 epochs, epoch: 1, metric: val_accuracy=0.7, eta: 2026-01-31T08:10:00Z",
        "progress: 2/10 epochs, epoch: 2, metric: val_accuracy=0.9, eta: 2026-01-31T08:10:00Z",
        "progress: 3/10 epochs, epoch: 3, metric: val_accuracy=0.9, eta: 2026-01-31T08:10:00Z",
    ]


def test_a_resumed_training_counts_its_own_pace() -> None:
    run = Run("train", epochs=10)
    run.epoch(7, 0.7, after=60)
    assert run.said == ["progress: 8/10 epochs, epoch: 8, metric: val_accuracy=0.7, eta: 2026-01-31T08:03:00Z"]


def test_a_sweep_says_ended_trials() -> None:
    run = Run("tune", num_samples=4)
    run.event("trial", trial="t1", state="finished", metric=0.5, epochs=3)  # of an attempt before
    run.epoch(0, 0.7, trial="t2", after=20)
    run.event("trial", trial="t2", state="finished", metric=0.7, epochs=1, after=20)
    assert run.said[0] == "progress: 1/4 trials, epoch: 3, metric: val_accuracy=0.5"
    assert run.said[-1] == "progress: 2/4 trials, epoch: 4, metric: val_accuracy=0.7, eta: 2026-01-31T08:02:00Z"


def test_a_run_without_an_end_or_a_metric() -> None:
    run = Run("train", epochs=-1)
    run.event("epoch", epoch=0, after=60)
    assert run.said == ["progress: 1 epochs, epoch: 1"]


def test_nothing_is_said_twice_and_what_comes_too_soon_is_said_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "EVERY_S", 0.2)
    run = Run("train")
    for number in range(5):
        run.epoch(number, 0.5)
    assert len(run.said) == 1
    _until(lambda: len(run.said) > 1)
    assert run.said == ["progress: 1 epochs, epoch: 1, metric: val_accuracy=0.5",
                        "progress: 5 epochs, epoch: 5, metric: val_accuracy=0.5"]  # fmt: skip
    run.event("end", state="succeeded")
    assert len(run.said) == 2


def test_the_end_is_said_at_once_and_has_no_eta() -> None:
    run = Run("train", epochs=10)
    run.epoch(0, 0.5, after=1)
    run.epoch(1, 0.6, after=1)
    run.event("end", state="failed")
    assert run.said[-1] == "progress: 2/10 epochs, epoch: 2, metric: val_accuracy=0.6"
    assert progress_line.EVERY_S == 10


def _until(look: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not look():
        assert time.monotonic() < end
        time.sleep(0.01)
