"""The life cycle of a run without a command line: whoever shows it gets all that there is to say as events."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.unit.fake_driver import quick, sweep
from tests.unit.test_run_request import RUN_FILE
from trainer_app.errors import FAILED_FOR_GOOD, InputError, StorageUnavailableError
from trainer_app.records import RunFolder, RunRecord
from trainer_app.run import lifecycle
from trainer_app.run.drive import Outcome
from trainer_app.run.interrupt import Interrupts
from trainer_app.run.request import RunRequest, prepare_run
from trainer_app.storage import open_store

pytestmark = pytest.mark.unit


class Listener:
    """A display that keeps the events."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def emit(self, event: dict[str, Any]) -> None:
        self.events.append(event)

    def show_driver(self, drive: Callable[..., Outcome]) -> Outcome:
        return drive(self.emit, Interrupts(lambda text: None, lambda: None))

    @property
    def kinds(self) -> list[str]:
        return [event["event"] for event in self.events]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run.yaml").write_text(RUN_FILE)


def lived(driver: Callable[..., int], **env: str) -> tuple[Outcome, Listener]:
    prepared, listener = prepare_run(RunRequest("tune", ["run.yaml"], name="toy-1"), env=env), Listener()
    outcome = lifecycle.run_prepared(prepared, listener, load_driver=lambda: driver, log=None, test=False)
    return outcome, listener


def test_a_run_is_driven_and_its_events_are_all_that_is_shown() -> None:
    outcome, listener = lived(lambda task, config, *, emit, **options: quick(emit))
    assert (outcome.exit_code, outcome.error, outcome.run) == (0, None, "mnist-1")
    assert listener.kinds == [event["event"] for event in sweep()]


def test_a_driver_that_raises_after_it_began_still_has_a_last_event() -> None:
    def fail(task: str, config: Any, *, emit: Any, **options: Any) -> int:
        emit({"event": "run", "run": "toy-1", "uri": "from-file/toy-1"})
        raise InputError("no such class")

    outcome, listener = lived(fail)
    assert (outcome.exit_code, str(outcome.error), outcome.run) == (2, "no such class", "toy-1")
    assert listener.kinds == ["run", "end"] and listener.events[-1]["state"] == "failed"


def test_a_submission_that_has_ended_is_reported_and_not_driven() -> None:
    prepared = prepare_run(RunRequest("tune", ["run.yaml"], name="toy-1"), env={"TRAINER_SUBMISSION": "s-1"})
    fields = {"submission": "s-1", "state": "failed", "final": True, "exit_code": 1, "error": "ValueError: no"}
    RunFolder.create(prepared.storage, RunRecord(name="toy-1", task="tune", **fields), RUN_FILE)

    def never(*args: Any, **options: Any) -> int:
        raise AssertionError("driven")

    outcome, listener = lived(never, TRAINER_SUBMISSION="s-1")
    assert (outcome.exit_code, listener.kinds) == (FAILED_FOR_GOOD, ["run", "end", "note", "error"])
    assert listener.events[-1]["error"] == "ValueError: no"


@pytest.mark.parametrize(
    "env, final, code",
    [({"TRAINER_SUBMISSION": "s-1"}, True, FAILED_FOR_GOOD), ({"TRAINER_SUBMISSION": "s-1"}, False, 1), ({}, True, 1)],
)
def test_a_submission_that_would_fail_again_says_so_by_its_exit_code(env: Any, final: bool, code: int) -> None:
    """Its submitter takes the RayJob's backoffLimit back; without that KubeRay may try it again."""

    def fail(task: str, config: Any, *, name: str, emit: Any, **options: Any) -> int:
        fields = {"submission": env.get("TRAINER_SUBMISSION"), "state": "failed", "final": final, "exit_code": 1}
        RunFolder.create(open_store(config.storage.uri), RunRecord(name=name, task="tune", **fields), RUN_FILE)
        return 1

    assert lived(fail, **env)[0].exit_code == code


def test_attempts_that_are_cut_before_the_run_is_recorded_have_a_log_each() -> None:
    env, log = {"TRAINER_SUBMISSION": "s-1"}, Path("driver.log")

    def cut_after(text: str) -> Callable[..., int]:
        def cut(task: str, config: Any, **options: Any) -> int:
            log.write_text(text)
            raise StorageUnavailableError("no answer")

        return cut

    for text in ("first\n", "second\n"):
        prepared = prepare_run(RunRequest("tune", ["run.yaml"], name="toy-1"), env=env)
        lifecycle.run_prepared(prepared, Listener(), load_driver=partial(cut_after, text), log=log, test=False)
        log.unlink()
    logs = prepared.run_store.child("logs/driver")
    assert {entry.key: logs.get(entry.key) for entry in logs.list()} == {
        "a0001.000.log": b"first\n",
        "a0002.000.log": b"second\n",
    }
