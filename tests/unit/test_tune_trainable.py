"""A trial that Tune ends: what its function does at its end is waited for (Tune's class, without Ray)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ray import tune
from ray.train._internal.storage import StorageContext
from ray.tune.trainable.function_trainable import wrap_function

from trainer_app import ray_compat
from trainer_app.config import loads
from trainer_app.run.spec import RunSpec
from trainer_app.tuning import sweep, trainable

pytestmark = pytest.mark.unit
RUN_FILE = """
model: {class_path: a.Model}
scaling: {use_gpu: false}
tune: {metric: m, mode: max, space: {model.init_args.a: {choice: [1]}}}
"""
ends: list[str] = []


def slow_end(params: dict[str, Any]) -> None:
    """Report, and take a while to end."""
    try:
        tune.report({"m": params["a"]})
    finally:
        time.sleep(0.3)
        ends.append("sent")


def raises_at_its_end(params: dict[str, Any]) -> None:
    """Report, be ended, and report the error of that."""
    try:
        tune.report({"m": params["a"]})
    finally:
        tune.report({"error": "of a callback's teardown"})


def never_ends(params: dict[str, Any]) -> None:
    """Report, and end later than anyone waits."""
    try:
        tune.report({"m": params["a"]})
    finally:
        time.sleep(1.0)


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any], Any]]:
    """What starts a trial of a function, up to its first report."""
    monkeypatch.setenv("RAY_CHDIR_TO_TRIAL_DIR", "0")
    monkeypatch.setenv("TUNE_DISABLE_RESOURCE_CHECKS", "1")
    monkeypatch.setattr("ray.train._internal.storage._get_ray_train_session_dir", lambda: str(tmp_path / "session"))
    monkeypatch.setattr(trainable, "POLL_S", 0.05)
    ends.clear()
    started = []

    def trial(function: Any) -> Any:
        monkeypatch.setattr(sweep, "run_trial", lambda params, spec: function(params))
        spec = RunSpec(run="r", uri="runs", config="", use_gpu=False)
        made, _ = sweep.make_trainable(loads(RUN_FILE), spec, None)
        storage = StorageContext(str(tmp_path), experiment_dir_name="r", trial_dir_name="t")
        started.append(wrap_function(made, name="trial")({"a": 3}, storage=storage))
        assert started[0].train()["m"] == 3
        return started[0]

    yield trial
    if ray_compat.get_session():
        started[0].stop()


def test_a_trial_that_is_stopped_has_ended_when_its_process_may_end(start: Callable[[Any], Any]) -> None:
    start(slow_end).stop()
    assert ends == ["sent"] and ray_compat.get_session() is None


def test_a_process_that_is_used_again_waits_too(start: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNE_FUNCTION_THREAD_TIMEOUT_S", "0")
    trial = start(slow_end)
    assert trial.reset({"a": 4}, storage=trial._storage)
    assert ends == ["sent"]


def test_an_error_at_the_end_is_no_reason_to_wait(start: Callable[[Any], Any]) -> None:
    trial, before = start(raises_at_its_end), time.monotonic()
    trial.stop()
    assert time.monotonic() - before < trainable.WAITS_S / 2


def test_the_wait_is_bounded_and_said(
    start: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(trainable, "SAID_S", 0.1)
    monkeypatch.setattr(trainable, "WAITS_S", 0.4)
    start(never_ends).stop()
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("trial ")]
    assert len(said) == 2 and "still sends what it wrote" in said[0] and "may lack what it wrote last" in said[1]


def test_the_last_trials_of_a_sweep_have_the_time_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_compat.tune, "TuneController", ray_compat.tune.TuneController)
    trainable.wait_for_last_trials()
    monkeypatch.setattr(ray_compat.TuneController, "__init__", lambda self: None)
    assert ray_compat.tune.TuneController()._actor_force_cleanup_timeout > trainable.WAITS_S
