"""One order of a metric's values, for results, retention, a sweep's records and the screen."""

from __future__ import annotations

import math
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.run_samples import epoch
from trainer_app.checkpoint import Commit, Manifest
from trainer_app.checkpoint.retention import find_surplus
from trainer_app.metric_order import best_of, is_better, replace_nan, sort_key
from trainer_app.records import RunFolder, RunRecord
from trainer_app.results import load_run
from trainer_app.results.view import RunView
from trainer_app.storage import open_store
from trainer_app.tuning.recorder import SweepRecorder

pytestmark = pytest.mark.unit
NAN, INF = math.nan, math.inf

# values in the order in which they come, mode, which is the best
TABLE: dict[str, tuple[list[float], str | None, int | None]] = {
    "max": ([0.5, 0.9, 0.7], "max", 1),
    "min": ([0.5, 0.9, 0.2, 0.7], "min", 2),
    "no mode is max, as in Ray": ([0.5, 0.9, 0.7], None, 1),
    "the first of equals": ([0.1, 0.5, 0.5], "max", 1),
    "NaN first": ([NAN, 0.5, 0.9], "min", 1),
    "NaN last": ([0.5, NAN], "max", 0),
    "infinity is a value, max": ([1.0, INF, NAN, -INF], "max", 1),
    "infinity is a value, min": ([1.0, INF, NAN, -INF], "min", 3),
    "infinity is better than NaN": ([NAN, INF], "min", 1),
    "NaN alone": ([NAN, NAN], "min", None),
}


@pytest.fixture(params=list(TABLE))
def case(request: pytest.FixtureRequest) -> tuple[list[float], str | None, int | None]:
    return TABLE[request.param]


def test_results(case: tuple[list[float], str | None, int | None], tmp_path: Path) -> None:
    values, mode, best = case
    storage = open_store(str(tmp_path))
    record = RunRecord.model_validate({"name": "a", "task": "train", "metric": "m", "mode": mode})
    folder = RunFolder.create(storage, record, "")
    for number, value in enumerate(values):
        epoch(folder.fit_folder(), number, {"m": value})
    found = load_run(storage.uri, "a").best
    assert (found and found.epoch) == best


def test_retention(case: tuple[list[float], str | None, int | None], tmp_path: Path) -> None:
    """The newest stays anyway: a commit without the metric, after all others."""
    values, mode, best = case
    store = open_store(str(tmp_path))
    commits = [
        Commit(f"c{i}", Manifest(epochs=i, step=i, attempt=1, world_size=1, time=0.0, metrics=metrics), store)
        for i, metrics in enumerate([*({"m": value} for value in values), {}])
    ]
    gone = find_surplus(commits, keep=1, monitor="m", mode=mode)
    assert [c for c in commits if c not in gone] == [commits[best or 0], commits[-1]]


def test_the_record_of_a_trial(case: tuple[list[float], str | None, int | None], tmp_path: Path) -> None:
    values, mode, best = case
    folder = RunFolder.create(open_store(str(tmp_path)), RunRecord(name="r", task="tune"), "")
    scheduler = SimpleNamespace(reasons={})
    recorder = SweepRecorder(
        folder, lambda e: None, mode=mode or "max", scheduler=scheduler, records={}, stopping=threading.Event()
    )
    trial: Any = SimpleNamespace(trial_id="t00000", config={})
    recorder.on_trial_start(0, [], trial)
    for number, value in enumerate(values):
        report = {"epochs": number + 1, "steps": 1, "elapsed": 1.0, "metrics": {}, "uri": None}
        recorder.on_trial_result(0, [], trial, {**report, "objective": value})
    assert recorder.records["t00000"].best_epoch == best


def test_the_screen(case: tuple[list[float], str | None, int | None]) -> None:
    values, mode, best = case
    view = RunView(task="tune", run="r", metric="m", mode=mode)
    for number, value in enumerate(values):
        view.apply({"event": "epoch", "trial": "all", "epoch": number, "metrics": {"m": value}})
        view.apply({"event": "trial", "trial": f"t{number}", "state": "finished", "metric": value})
    wanted = NAN if best is None else values[best]
    assert view.rows["all"].value == pytest.approx(wanted, nan_ok=True)
    assert view.best(1, ended=True)[0].trial == f"t{best or 0}"


def test_what_is_no_number_is_the_worst() -> None:
    assert sort_key(None, "min") == sort_key("nan", "max") == sort_key(NAN, "min")
    assert is_better(-INF, None, "max") and not is_better(None, NAN, "max") and not is_better(1.0, 1.0, "min")
    assert best_of([], "min") is None and best_of([(None, "a"), (2, "b")], "max") == "b"


def test_nan_becomes_the_worst_number_for_what_compares() -> None:
    assert [replace_nan(value, "min") for value in (NAN, -INF, 0.5)] == [INF, -INF, 0.5]
    assert [replace_nan(value, mode) for value in (NAN, INF) for mode in ("max", None)] == [-INF, -INF, INF, INF]
