"""Two drivers of one run: one has the lease, and who was replaced writes nothing over its successor's records."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import pytest

from tests.faulty_store import SILENT, Faults, FaultyStore
from tests.races import SlowStore, lease_of, run_races
from tests.unit.test_tune_recorder import recorder, trial
from trainer_app.errors import LeaseHeldError, LeaseLostError
from trainer_app.records import RunFolder, RunRecord
from trainer_app.run import attempt, documents, lease, lease_file
from trainer_app.run.artifacts import Limits, Sender
from trainer_app.run.fence import fenced
from trainer_app.run.identity import this_process
from trainer_app.run.spec import RunSpec
from trainer_app.storage import Store, open_retrying, open_store

pytestmark = pytest.mark.unit


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunFolder]:
    monkeypatch.setattr(lease, "POLL_S", 0.02)
    made = RunFolder.create(open_store(str(tmp_path / "runs")), RunRecord(name="r", task="tune"), "name: toy\n")
    yield made
    lease.release(made.run_store)


def replace_driver(store: Store) -> None:
    """Another machine's driver has acquired the lease since."""
    other = replace(this_process(), host="head-2", machine="another boot", pid=7)
    number = lease_file.next_number(lease_file.read(store))
    document = {"holder": other.name, "expires": time.time() + 30, **asdict(other), "attempt": number}
    documents.write(store, lease_file.KEY, document)


@pytest.mark.parametrize("ignorant", [False, True])
@pytest.mark.parametrize("before", [None, {"holder": "x", "host": "x", "expires": 1.0, "attempt": 4}, {}])
def test_one_of_two_has_a_free_lease_however_slow_the_writes_are(
    folder: RunFolder, before: Any, ignorant: bool
) -> None:
    """Also on a server that ignores the conditions of a PUT. A PUT of more than 0.3 s gave it to both."""
    if before is not None:
        documents.write(folder.run_store, lease_file.KEY, before)
    gate = threading.Barrier(2)

    def take(host: str, seconds: float) -> bool:
        def pause(key: str) -> None:
            time.sleep(seconds if key == lease_file.KEY else 0)

        held = lease_of(SlowStore(folder.run_store, pause, ignorant=ignorant), host)
        gate.wait()
        try:
            held.acquire(wait=False, say=lambda text: None)
        except LeaseHeldError:
            return False
        held._guard.stop()
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(take, ("head-1", "head-2"), (0.0, 0.4))) == [False, True]


@pytest.mark.parametrize("ignorant", [False, True])
def test_a_late_renewal_does_not_throw_the_successor_out(folder: RunFolder, ignorant: bool) -> None:
    """Its lease expires while its PUT is on the way; the successor is there when it arrives."""
    late = threading.Event()
    arrive = threading.Event()

    def pause(key: str) -> None:
        if late.is_set() and key == lease_file.KEY:
            late.clear()
            arrive.wait(10)

    former = lease_of(SlowStore(folder.run_store, pause, ignorant=ignorant), "head-1")
    former.acquire(wait=False, say=lambda text: None)
    former._guard.stop()
    late.set()
    renewal = threading.Thread(target=former.renew)
    renewal.start()
    while late.is_set():
        time.sleep(0.001)
    document = lease_file.read(folder.run_store) or {}
    documents.write(folder.run_store, lease_file.KEY, {**document, "expires": 1.0})
    successor = lease_of(folder.run_store, "head-2")
    successor.acquire(wait=False, say=lambda text: None)
    successor._guard.stop()
    arrive.set()
    renewal.join()
    if not ignorant:
        assert (lease_file.read(folder.run_store) or {})["host"] == "head-2"
    lease_file.check_token(folder.run_store, successor.token)
    successor.renew()
    former.renew()
    assert (successor.lost, bool(former.lost)) == (None, True)
    assert (lease_file.read(folder.run_store) or {})["host"] == "head-2"


def test_a_renewal_after_its_own_end_takes_the_lease_anew(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    held = lease_of(folder.run_store, "head-1")
    held.acquire(wait=False, say=lambda text: None)
    held._guard.stop()
    monkeypatch.setattr(lease, "LEASE_S", 0.0)
    with lease_file.taking(folder.run_store):  # another driver is about to take it
        before = folder.run_store.get(lease_file.KEY)
        held.renew()
        assert folder.run_store.get(lease_file.KEY) == before
    held.renew()
    assert folder.run_store.get(lease_file.KEY) != before and held.lost is None


def test_who_announced_and_died_is_waited_for_no_longer_than_its_lease(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.run_store.put("lease/dead", b"{}")
    with lease_file.taking(folder.run_store) as alone:
        assert not alone
    monkeypatch.setattr(lease_file, "STALE_S", -1.0)
    with lease_file.taking(folder.run_store) as alone:
        assert alone
    assert [entry.key for entry in folder.run_store.list("lease")] == ["dead"]


@pytest.mark.parametrize("method", ["put", "delete"])
def test_one_request_that_fails_keeps_no_announcement(folder: RunFolder, method: str) -> None:
    """The next attempt waited 90 s for it, and said nothing."""
    store = FaultyStore(folder.run_store, Faults())
    with lease_file.taking(cast(Store, store)) as alone:
        assert alone
        store.faults.matches = lambda asked, key: asked == method
        store.faults.always = SILENT
    with lease_file.taking(folder.run_store) as alone:
        assert alone


def test_waiting_for_who_announced_says_so(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "QUIET_S", 0.05)
    folder.run_store.put("lease/dead", b"{}")
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        folder.run_store.delete("lease/dead")

    held = lease_of(folder.run_store, "head-1")
    held.acquire(wait=False, say=say)
    held._guard.stop()
    assert len(said) == 1 and "about to take the run's lease: waiting" in said[0] and "up to 90 s" in said[0]


def test_a_replaced_driver_writes_nothing_however_it_ends(folder: RunFolder, tmp_path: Path) -> None:
    """`failed, final` over the successor's record: the operator's next attempt would only repeat that failure."""
    storage, theirs = open_store(str(tmp_path / "runs")), RunRecord(name="r", task="tune", attempt=2)
    events: list[Any] = []

    def drive() -> None:
        with attempt.recording(folder, storage, events.append):
            replace_driver(storage.child("r"))
            storage.child("r").put("run.json", theirs.to_json())
            raise RuntimeError("boom")

    with pytest.raises(LeaseLostError, match="the driver head-2:7 has taken over run r"):
        drive()
    assert storage.get("r/run.json") == theirs.to_json()
    assert events == [] and folder.run_store.uri not in lease._held


def test_a_replaced_sweep_writes_no_trial(folder: RunFolder) -> None:
    """Its trials became `failed, over` for the successor."""
    lease.acquire(folder.run_store, "s")
    plain, folder.run_store = folder.run_store, lease.fence(folder.run_store)
    kept = recorder(folder)
    kept.on_trial_start(0, [], trial())
    before = plain.get("trials/t00000/trial.json")
    replace_driver(plain)
    with pytest.raises(LeaseLostError):
        kept.on_trial_error(0, [], trial("its process ended"))
    assert plain.get("trials/t00000/trial.json") == before


def test_a_record_that_arrives_after_the_successors_is_refused(folder: RunFolder) -> None:
    """The lease was still its own when it looked."""
    held = lease_of(folder.run_store, "head-1")
    held.acquire(wait=False, say=lambda text: None)
    held._guard.stop()
    theirs = RunRecord(name="r", task="tune", attempt=2).to_json()

    def overtake(key: str) -> None:
        if key == "run.json" and folder.run_store.get(key) != theirs:
            replace_driver(folder.run_store)
            folder.run_store.put(key, theirs)

    slow: Any = SlowStore(folder.run_store, overtake)
    with pytest.raises(LeaseLostError):
        RunFolder(fenced(slow, held.token), folder.record).update(state="failed", final=True)
    assert folder.run_store.get("run.json") == theirs


def test_every_write_of_a_former_drivers_worker_is_refused(folder: RunFolder, tmp_path: Path) -> None:
    held = lease.acquire(folder.run_store, "s")
    spec = RunSpec("r", str(tmp_path / "runs"), "", use_gpu=False, driver=held.token)
    store = spec.run_store()
    (tmp_path / "file").write_bytes(b"x")
    writes = {
        "a record": lambda: store.put("run.json", b"{}"),
        "a new object": lambda: store.put("x/new", b"", create=True),
        "metrics": lambda: spec.fit_folder("t0").append_epoch(1, {"epoch": 0}),
        "an attempt": lambda: spec.fit_folder("t0").take_attempt(0),
        "a payload": lambda: store.put_file("x/file", tmp_path / "file"),
        "a deletion": lambda: store.delete("run.yaml"),
        "deletions": lambda: store.delete_prefix(""),
    }
    store.put("x/mine.json", b"{}")
    replace_driver(folder.run_store)
    before = {entry.key for entry in folder.run_store.list()}
    for write in writes.values():
        with pytest.raises(LeaseLostError, match="belongs to a former driver"):
            write()
    assert {entry.key for entry in folder.run_store.list()} == before
    assert store.get("x/mine.json") == b"{}"


def test_what_a_process_without_a_lease_writes_is_not_fenced(folder: RunFolder, tmp_path: Path) -> None:
    assert lease.fence(folder.run_store) is folder.run_store
    retrying = open_retrying(str(tmp_path / "runs"), 1.0)
    assert fenced(retrying, "") is retrying
    once: Any = fenced(fenced(retrying, "a 1 1"), "a 1 1")
    assert once.inner.inner == retrying.inner


def test_two_workers_of_one_fit_never_have_one_number(folder: RunFolder) -> None:
    """Both began before either had written: the payload was one's, the manifest the other's."""
    fit_folder = folder.fit_folder("t00000")
    gate = threading.Barrier(8)

    def begin(_: int) -> int:
        gate.wait()
        return fit_folder.take_attempt(after=2)  # an older version's run, which kept no numbers

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(begin, range(8))) == list(range(3, 11))
    assert fit_folder.take_attempt(after=1) == 11


@pytest.mark.parametrize("count", [10, pytest.param(200, marks=pytest.mark.full)])
def test_races_of_two_drivers_have_one_winner(tmp_path: Path, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "LEASE_S", 0.3)
    monkeypatch.setattr(lease, "POLL_S", 0.02)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # a busy disk takes 50 ms
    run_races(open_store(str(tmp_path / "runs")), tmp_path, count, at_once=10)


@pytest.mark.parametrize("change", ["a write", "a deletion"])
def test_an_artifact_of_a_former_driver_that_comes_late_does_not_stay(
    folder: RunFolder, tmp_path: Path, change: str
) -> None:
    """The lease was still its own when it looked, and its file took a while."""
    files = {name: tmp_path / name for name in ("former", "mine")}
    for name, path in files.items():
        path.write_text(name)
    held = lease_of(folder.run_store, "head-1")
    held.acquire(wait=False, say=lambda text: None)
    held._guard.stop()
    plain = folder.run_store.child("artifacts")
    found: dict[str, Path] = {"model.bin": files["mine"]}
    ours = Sender(plain, lambda: found, Limits(10, 1000))
    former: dict[str, Path] = {"model.bin": files["former"]}

    def overtake(key: str) -> None:
        if not ours._sent:
            replace_driver(folder.run_store)
            ours.send()

    slow: Any = SlowStore(folder.run_store, overtake)
    theirs = Sender(fenced(slow, held.token).child("artifacts"), lambda: former, Limits(10, 1000))
    theirs.send()
    assert plain.get("model.bin") == b"mine"
    if change == "a deletion":
        plain.delete("model.bin")
        ours.send(last=True)
        assert plain.get("model.bin") == b"mine"
