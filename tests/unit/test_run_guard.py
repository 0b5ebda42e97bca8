"""Threads that guard a run outlive what their work raises; one that fails for long ends the run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faulty_store import SILENT, Faults, FaultyStore
from trainer_app.errors import GuardError, StorageError, UserError
from trainer_app.records import RunFolder, RunRecord
from trainer_app.run import attempt, documents, guard, lease, lease_file, logs, stop, watch
from trainer_app.run.guard import Guard
from trainer_app.run.retry import ends_run
from trainer_app.storage import open_store, retrying
from trainer_app.storage.folder import FolderStore

pytestmark = pytest.mark.unit


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunFolder]:
    for module, name, value in ((watch, "POLL_S", 0.02), (lease, "RENEW_S", 0.02)):
        monkeypatch.setattr(module, name, value)
    made = RunFolder.create(open_store(str(tmp_path)), RunRecord(name="toy-1", task="train"), "name: toy\n")
    yield made
    lease.release(made.run_store)


def until(look: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_guard_outlives_whatever_its_work_raises_and_logs_it(caplog: pytest.LogCaptureFixture) -> None:
    errors: list[Exception] = [ValueError("one"), KeyError("two"), SILENT, RecursionError("four")]
    done = threading.Event()

    def work() -> None:
        if errors:
            raise errors.pop(0)
        done.set()

    made = Guard("work is done", work, every_s=lambda: 0.01)
    made.start()
    assert done.wait(10)
    made.stop(wait_s=5)
    assert all(text in caplog.text for text in ("ValueError: one", "KeyError: 'two'", "no connection", "four"))
    assert made.problem == "" and guard.find_problem() == ""


def test_how_long_it_may_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "LIMIT_S", 0.05)

    def failing(error: Exception, **options: Any) -> Guard:
        def work() -> None:
            raise error

        made = Guard("it works", work, every_s=lambda: 1.0, **options)
        made.work()
        time.sleep(0.06)
        made.work()
        return made

    assert failing(ValueError("boom")).problem.startswith("it works: boom, for 0 s (ValueError)")
    assert failing(SILENT).problem == "" and failing(SILENT, storage_s=9.0).problem == ""
    assert failing(SILENT, storage_s=0.05).problem.startswith("it works: no connection")


@pytest.mark.parametrize("broken", ["trainer_app.run.stop.read_request", "trainer_app.run.lease.Lease.renew"])
def test_a_guard_that_fails_for_long_ends_the_run_with_its_reason(
    broken: str, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "LIMIT_S", 0.2)

    def boom(*_: Any) -> Any:
        raise TypeError("NoneType")

    def drive() -> None:
        with attempt.recording(folder, open_store(str(Path(folder.uri).parent)), lambda event: None):
            monkeypatch.setattr(broken, boom)
            time.sleep(20)

    with pytest.raises(GuardError, match="NoneType") as caught:
        drive()
    assert ("stop are watched" if "stop" in broken else "lease is renewed") in str(caught.value)
    assert (folder.record.state, folder.record.final) == ("failed", False) and not ends_run(caught.value)


@pytest.mark.parametrize("hanging", ["trainer_app.run.stop.read_request", "trainer_app.run.lease.Lease.renew"])
def test_a_guard_that_hangs_ends_the_run_with_its_reason(
    hanging: str, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "LIMIT_S", 0.2)
    over = threading.Event()

    def drive() -> None:
        with attempt.recording(folder, open_store(str(Path(folder.uri).parent)), lambda event: None):
            monkeypatch.setattr(hanging, lambda *_: over.wait(30))
            time.sleep(20)

    with pytest.raises(GuardError, match="that has not returned for") as caught:
        drive()
    over.set()
    assert ("stop are watched" if "stop" in hanging else "lease is renewed") in str(caught.value)
    assert (folder.record.state, folder.record.final) == ("failed", False) and not ends_run(caught.value)


class Stuck(FolderStore):
    """A mount whose server is gone: no read returns."""

    def get(self, key: str, *, start: int = 0) -> bytes:
        STUCK.wait(30)
        return super().get(key, start=start)


STUCK = threading.Event()


def test_a_storage_that_hangs_has_the_limit_of_one_that_is_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "LIMIT_S", 0.05)
    store = retrying.RetryingStore(Stuck(str(tmp_path)), 1.5, retrying.Access())
    made = {s: Guard("it works", lambda: bool(store.get("x")), every_s=lambda: 0.01, storage_s=s) for s in (1.5, 60.0)}
    slow = Guard("it is sent", lambda: bool(STUCK.wait(30)), every_s=lambda: 0.01, slow=True)
    for each in (*made.values(), slow):
        each.start()
    time.sleep(0.15)
    assert guard.find_problem() == ""
    until(lambda: made[1.5].problem)
    assert made[1.5].problem.startswith("it works: that has not returned for ")
    assert made[60.0].problem == slow.problem == ""
    STUCK.set()
    for each in (*made.values(), slow):
        each.stop(wait_s=5)
    assert guard.find_problem() == ""


def test_a_run_whose_end_hangs_too_ends_its_process(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "LIMIT_S", 0.1)
    monkeypatch.setattr(watch, "LEAVE_S", 0.1)
    left: list[int] = []
    said: list[str] = []
    over, ended = threading.Event(), threading.Event()

    def leave(code: int) -> None:
        left.append(code)
        ended.set()

    monkeypatch.setattr("os._exit", leave)
    monkeypatch.setattr(folder, "update", lambda **fields: ended.wait(20))

    def drive() -> None:
        with attempt.recording(folder, open_store(str(Path(folder.uri).parent)), lambda event: None):
            monkeypatch.setattr(stop, "read_request", lambda *_: over.wait(30))
            time.sleep(20)

    with retrying.saying(said.append), pytest.raises(GuardError):
        drive()
    over.set()
    assert left == [1] and "requests to stop are watched: that has not returned" in said[-1]


def test_a_watch_that_failed_for_a_while_still_sees_a_stop(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = [ValueError("one"), TypeError("two")]
    read = stop.read_request

    def sometimes(store: Any) -> Any:
        if failures:
            raise failures.pop()
        return read(store)

    storage = open_store(str(Path(folder.uri).parent))
    with attempt.recording(folder, storage, lambda event: None) as watching:
        monkeypatch.setattr(stop, "read_request", sometimes)
        documents.write(folder.run_store, stop.REQUEST, {"id": "1", "by": "me"})
        until(watching.stopping.is_set)


def silent_storage(folder: RunFolder) -> tuple[RunFolder, Any, Faults]:
    storage: Any = FaultyStore(open_store(str(Path(folder.uri).parent)))
    return RunFolder.open(storage, folder.name), storage, storage.faults


@pytest.mark.parametrize("error", [UserError("ValueError: mine", "Traceback"), KeyboardInterrupt(), RuntimeError("x")])
def test_a_silent_storage_at_the_end_hides_no_error_and_keeps_no_lease(error: Any, folder: RunFolder) -> None:
    faulty, storage, faults = silent_storage(folder)

    def drive() -> None:
        with attempt.recording(faulty, storage, lambda event: None):
            faults.matches, faults.always = (lambda method, key: not key.endswith("lease.json")), SILENT
            raise error

    with pytest.raises(type(error)) as caught:
        drive()
    assert caught.value is error
    assert (documents.read(folder.run_store, lease_file.KEY) or {})["expires"] == 0
    assert faulty.run_store.uri not in lease._held


def test_a_log_that_is_cut_while_it_is_sent_is_sent_anew_once(tmp_path: Path) -> None:
    storage: Any = FaultyStore(open_store(str(tmp_path / "storage")))
    path = tmp_path / "log"
    path.write_bytes(b"0123456789")
    growing = logs.GrowingFile(path, "k")
    growing.send(storage)
    real = open_store(storage.uri)

    class Cutting:
        """The log is cut between the look at its size and the reading: here, by the first read itself."""

        def put(self, key: str, data: bytes) -> None:
            puts.append(data)
            path.write_bytes(b"")
            assert len(puts) < 10
            real.put(key, data)

    puts: list[bytes] = []
    with path.open("ab") as file:
        file.write(b"x" * (2 * logs.PART))
    growing.send(Cutting())  # type: ignore[arg-type]
    assert len(puts) == 1
    path.write_bytes(b"new")
    growing.send(Cutting())  # type: ignore[arg-type]
    assert puts[1:] == [b"new"]


def test_what_keeps_one_log_from_being_sent_keeps_no_other(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
    store: Any = FaultyStore(open_store(str(tmp_path / "storage")))
    store.faults.matches = lambda method, key: key.startswith("one")
    store.faults.always = StorageError("refused")
    logs.Uploader(store, [logs.GrowingFile(tmp_path / name, name) for name in ("one", "two")]).send()
    assert [entry.key for entry in store.list()] == ["two.000.log"]


def test_a_request_to_stop_is_withdrawn_where_nothing_may_be_deleted(folder: RunFolder) -> None:
    from trainer_app.errors import AccessDeniedError

    faulty, _, faults = silent_storage(folder)
    documents.write(folder.run_store, stop.REQUEST, {"id": "1"})
    faults.matches, faults.always = (lambda method, key: method == "delete"), AccessDeniedError("no deletion")
    stop.withdraw_request(faulty.run_store)
    assert stop.read_request(folder.run_store) is None and not stop.StopPoll(folder.run_store)()
    stop.withdraw_request(faulty.run_store)
