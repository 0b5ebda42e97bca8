"""Deadlines, requests to stop and a lost lease, noticed beside a driver that sleeps."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from trainer_app.errors import DeadlineError, InputError, LeaseLostError, RunEndedError
from trainer_app.records import RunFolder, RunRecord
from trainer_app.run import attempt, documents, lease, lease_file, stop, watch
from trainer_app.run.deadlines import Deadlines
from trainer_app.run.watch import Watch
from trainer_app.storage import open_store

pytestmark = pytest.mark.unit


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunFolder]:
    monkeypatch.setattr(watch, "POLL_S", 0.02)
    monkeypatch.setattr(lease, "RENEW_S", 0.05)
    for name in ("DEADLINE_S", "FIRST_STEP_DEADLINE_S", "SUBMISSION"):
        monkeypatch.delenv(f"TRAINER_{name}", raising=False)
    found = RunFolder.create(open_store(str(tmp_path)), RunRecord(name="toy-1", task="train"), "name: toy\n")
    yield found
    lease.release(found.run_store)


def watching(folder: RunFolder, **given: Any) -> tuple[Watch, list[dict[str, Any]]]:
    events: list[dict[str, Any]] = []
    default: dict[str, Any] = {"deadlines": Deadlines(), "begun": False, "missing": lambda: ""}
    return Watch(folder.run_store, lease.acquire(folder.run_store, "s"), events.append, **{**default, **given}), events


def soon(folder: RunFolder) -> float:
    """A deadline that passes in a second. The lease's own write counts too, and may take any time."""
    return lease.acquire(folder.run_store, "s").spent + 1


def until(look: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    "spent, begun, words",
    [
        (9.0, False, ""),
        (
            10.0,
            False,
            (
                "no epoch has ended in 10 s of all attempts, "
                "lifetime.firstStepDeadlineSeconds (TRAINER_FIRST_STEP_DEADLINE_S) allows 10"
            ),
        ),
        (10.0, True, ""),
        (
            100.0,
            True,
            "all attempts together have taken 100 s, lifetime.totalDeadlineSeconds (TRAINER_DEADLINE_S) allows 100",
        ),
    ],
)
def test_which_deadline_has_passed(spent: float, begun: bool, words: str) -> None:
    found = Deadlines.from_env({"TRAINER_DEADLINE_S": "100", "TRAINER_FIRST_STEP_DEADLINE_S": "10"})
    assert found.passed(spent, begun=begun) == words
    assert Deadlines.from_env({}).passed(1e9, begun=False) == ""


@pytest.mark.parametrize("value", ["x", "0", "-1", "nan", "inf"])
def test_a_deadline_is_a_number_of_seconds(value: str) -> None:
    with pytest.raises(InputError, match="TRAINER_DEADLINE_S must be a number of seconds above 0"):
        Deadlines.from_env({"TRAINER_DEADLINE_S": value})


def test_a_deadline_ends_the_drivers_main_thread(folder: RunFolder) -> None:
    words, seconds = "the workers need 2 GPU at once", soon(folder)
    found, _ = watching(folder, deadlines=Deadlines(first_step=seconds), missing=lambda: words)
    with pytest.raises(RunEndedError), found:
        time.sleep(20)
    assert isinstance(found.error, DeadlineError) and str(found.error).endswith(f"allows {seconds:g}; {words}")


def test_an_epoch_ends_the_first_steps_deadline(folder: RunFolder) -> None:
    found, events = watching(folder, deadlines=Deadlines(first_step=0.2))
    found.emit({"event": "epoch"})  # before it looks: the lease's write alone may take those 0.2 s
    with found:
        time.sleep(0.4)
    assert events == [{"event": "epoch"}] and found.error is None


def test_seconds_of_earlier_attempts_count(folder: RunFolder) -> None:
    documents.write(folder.run_store, lease_file.KEY, {"expires": 0, "spent": 50.0})
    found, _ = watching(folder, deadlines=Deadlines(total=50))
    with pytest.raises(DeadlineError, match=r"have taken 5\d s"), found:
        pytest.fail("it began")


def test_a_stop_is_told_once_and_ends_nothing_here(folder: RunFolder) -> None:
    found, events = watching(folder)
    with found:
        documents.write(folder.run_store, stop.REQUEST, {"id": "stop-1", "asked": 12.0, "by": "me"})
        until(found.stopping.is_set)
        time.sleep(0.1)
    assert events == [{"event": "stop", "by": "me", "asked": 12.0}]


def drive(folder: RunFolder) -> None:
    """A driver whose lease another one takes."""
    with attempt.recording(folder, open_store(str(Path(folder.uri).parent)), lambda event: None):
        with lease.acquire(folder.run_store, None)._lock:  # else a renewal that has read already writes over it
            document = documents.read(folder.run_store, lease_file.KEY) or {}
            documents.write(folder.run_store, lease_file.KEY, {**document, "holder": "head-2:7", "host": "head-2"})
        time.sleep(20)


def test_a_driver_that_was_replaced_ends_and_writes_nothing(folder: RunFolder) -> None:
    before = folder.run_store.get("run.json")
    with pytest.raises(LeaseLostError, match="the driver head-2:7 has taken over run toy-1"):
        drive(folder)
    assert folder.run_store.get("run.json") == before
    assert (documents.read(folder.run_store, lease_file.KEY) or {})["host"] == "head-2"


def test_a_passed_deadline_is_a_failure_for_good(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINER_DEADLINE_S", "0.1")
    events: list[dict[str, Any]] = []
    storage = open_store(str(Path(folder.uri).parent))
    with pytest.raises(DeadlineError), attempt.recording(folder, storage, events.append):
        time.sleep(20)
    record = folder.record
    assert (record.state, record.final, record.exit_code) == ("failed", True, 1)
    assert record.error and "(TRAINER_DEADLINE_S) allows 0.1" in record.error
    assert (events[-1]["event"], events[-1]["state"]) == ("end", "failed")
    assert (documents.read(folder.run_store, lease_file.KEY) or {})["expires"] == 0


def test_an_interruption_is_no_failure_and_frees_the_run(folder: RunFolder) -> None:
    storage = open_store(str(Path(folder.uri).parent))
    with pytest.raises(KeyboardInterrupt), attempt.recording(folder, storage, lambda event: None):
        raise KeyboardInterrupt
    assert (folder.record.state, folder.record.final) == ("interrupted", False)
    assert (documents.read(folder.run_store, lease_file.KEY) or {})["expires"] == 0


def test_beside_another_thread_it_only_says_so(folder: RunFolder, caplog: pytest.LogCaptureFixture) -> None:
    """Signals reach the main thread alone: a driver in another one goes on."""
    done = threading.Event()

    def drive() -> None:
        found, _ = watching(folder, deadlines=Deadlines(total=soon(folder)))
        with found:
            until(lambda: found.error)
            until(lambda: "can't be ended from here" in caplog.text)
        done.set()

    threading.Thread(target=drive).start()
    assert done.wait(10)
