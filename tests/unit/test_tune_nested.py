"""What a nested trial's workers report, on its way to Tune."""

from __future__ import annotations

import queue
import time
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import ray.util.queue

from trainer_app.tuning import nested, placement_groups

pytestmark = pytest.mark.unit


class OnePlace:
    """Ray's queue of one place, in this process."""

    def __init__(self) -> None:
        self.inner: queue.Queue[dict[str, Any]] = queue.Queue(1)

    def put(self, item: dict[str, Any]) -> None:
        self.inner.put(item, timeout=10)

    def get(self, *, block: bool, timeout: float | None = None) -> dict[str, Any]:
        try:
            return self.inner.get(block=block, timeout=timeout)
        except queue.Empty:
            raise ray.util.queue.Empty from None


def reporting(count: int, arrived: OnePlace, error: Exception | None = None) -> Any:
    def fit() -> None:
        for number in range(count):
            nested.Reports(arrived).after_report(None, [{"n": number}, {"n": "of rank 1"}], None)
        if error:
            raise error

    return nested.iter_reports(fit, arrived)


@pytest.mark.parametrize("slow", [0.0, 0.05], ids=["at once", "slower than the fit"])
def test_every_report_of_rank_0_arrives(slow: float) -> None:
    seen = []
    for report in reporting(5, OnePlace()):
        time.sleep(slow)
        seen.append(report["n"])
    assert seen == [0, 1, 2, 3, 4]


def test_a_failure_comes_after_the_reports() -> None:
    arriving = reporting(2, OnePlace(), ValueError("planned"))
    assert [next(arriving)["n"], next(arriving)["n"]] == [0, 1]
    with pytest.raises(ValueError, match="planned"):
        next(arriving)


def test_a_trial_that_tune_ends_leaves_its_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    ending = iter([False, True])
    monkeypatch.setattr(nested, "is_ending", lambda: next(ending))
    arriving = reporting(1, OnePlace())
    assert next(arriving)["n"] == 0
    with pytest.raises(SystemExit):
        next(arriving)


class Actor:
    """An actor in this process; a call returns its result in place of Ray's reference."""

    def __init__(self, **methods: Any) -> None:
        for name, method in methods.items():
            setattr(self, name, SimpleNamespace(remote=method))


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's calls, in this process: a reference is done if it is true."""
    monkeypatch.setattr("ray.get", lambda value: value)
    monkeypatch.setattr("ray.wait", lambda refs, **_: ([r for r in refs if r()], [r for r in refs if not r()]))


@pytest.mark.usefixtures("here")
def test_the_workers_of_a_trial_that_is_ended_are_waited_for() -> None:
    """Its controller hands over a report before it ends, which no one reads."""
    arrivals = OnePlace()
    arrivals.put({"n": 1})
    controller = Actor(abort=lambda: arrivals.inner.empty)
    nested.end_workers(Actor(get=lambda trial: [("id", [controller])]), "t00001", arrivals)
    assert arrivals.inner.empty()


@pytest.mark.usefixtures("here")
def test_that_wait_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nested, "WAITS_S", 0.05)
    registry = Actor(get=lambda trial: [("id", [Actor(abort=lambda: bool)])])
    nested.end_workers(registry, "t00001", OnePlace())


@pytest.mark.usefixtures("here")
def test_workers_send_what_they_wrote_before_they_are_killed() -> None:
    group, callback = Mock(**{"execute_async.return_value": [bool]}), nested.SendFiles()
    callback.after_worker_group_start(group)
    callback.before_worker_group_abort(None)
    group.execute_async.assert_called_once_with(nested.send_files)


@pytest.mark.usefixtures("here")
def test_a_trial_is_released_when_its_controllers_have_ended_or_its_time_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dead: set[str] = set()
    released: list[str] = []
    resources = placement_groups.NestedTrialResources.__new__(placement_groups.NestedTrialResources)
    resources.controllers = Actor(get=lambda trial: [(f"of {trial}", [])])
    resources.ending = {}
    monkeypatch.setattr(placement_groups, "_is_dead", lambda actor: actor in dead)
    monkeypatch.setattr(resources, "release", released.append)
    resources.release_when_ended("t1")
    resources.release_when_ended("t2")
    resources.release_ended()
    assert released == []
    dead.add("of t2")
    resources.release_ended()
    assert released == ["t2"]
    del resources.ending["t2"]
    resources.ending["t1"] = time.monotonic() - 1
    resources.release_ended()
    assert released == ["t2", "t1"]
