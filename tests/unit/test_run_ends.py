"""Why each attempt of a run ended, and since when it was queued: recorded by one driver, drawn for all."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.run_samples import commit
from tests.unit.test_fencing import replace_driver
from tests.unit.test_report import described
from trainer_app import results
from trainer_app.config import loads
from trainer_app.errors import LeaseLostError, TrainerError
from trainer_app.launch.remote_run import Launch, RemoteRun
from trainer_app.records import FitFolder, RunFolder, RunRecord, TrialRecord
from trainer_app.records.models import MAX_REASON, TIME_BUDGET
from trainer_app.run import attempt, documents, ends, lease, lease_file
from trainer_app.storage import Store, open_store

pytestmark = pytest.mark.unit
MODEL = "lightning.pytorch.demos.boring_classes.BoringModel"
CONFIG = f"""
model: {{class_path: {MODEL}}}
seed_everything: 1
trainer: {{max_epochs: 9}}
scaling: {{use_gpu: false}}
"""
SWEEP = "tune: {metric: loss, mode: min, num_samples: 2, space: {model.init_args.lr: {uniform: [0.0, 1.0]}}}\n"
SUBMISSION = "TRAINER_SUBMISSION"


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Store]:
    storage = open_store(str(tmp_path / "runs"))
    yield storage
    lease.release(storage.child("r"))


def begin(storage: Store, *, resume: bool = True, task: str = "train") -> RunFolder:
    """The next attempt, as `run_attempt` begins it."""
    config = loads(CONFIG + (SWEEP if task == "tune" else ""))
    return attempt.open_run(storage, config, name="r", resume=resume, task=task, check=lambda _: None)[0]


def end(storage: Store, folder: RunFolder, **changes: Any) -> None:
    with attempt.recording(folder, storage, lambda event: None):
        folder.update(**changes)


def kill(folder: RunFolder, *, host: str = "head-1", renewed: float | None = None) -> None:
    """End the driver without a word; its lease says that it was on another machine."""
    lease._held.pop(folder.run_store.uri)._guard.stop()
    store = open_store(folder.uri)
    document = {"holder": f"{host}:7", "host": host, "expires": (renewed or time.time() - 40) + lease.LEASE_S}
    documents.write(store, lease_file.KEY, {**(documents.read(store, lease_file.KEY) or {}), **document})


def submit(storage: Store, monkeypatch: pytest.MonkeyPatch, submission: str, *, seconds_ago: float) -> float:
    """What the launcher writes, and what the pod's environment has."""
    monkeypatch.setenv(SUBMISSION, submission)
    created = time.time() - seconds_ago
    launch = Launch("r", "train", "ns", submission, "chart", "1", created=created)
    RemoteRun(storage.child("r"), "r").record_resubmission(launch)
    return created


def test_every_attempt_keeps_why_it_ended(storage: Store) -> None:
    """Failed, stopped by somebody, interrupted, killed, finished: five drivers of one run."""
    folder = begin(storage, resume=False)
    with pytest.raises(TrainerError), attempt.recording(folder, storage, lambda event: None):
        raise TrainerError("CUDA is out of memory")
    folder = begin(storage)
    RemoteRun(folder.run_store, "r").request_stop("stop-1", "ada\x1b[2J")
    end(storage, folder, state="interrupted")
    folder = begin(storage)
    with pytest.raises(KeyboardInterrupt), attempt.recording(folder, storage, lambda event: None):
        raise KeyboardInterrupt
    folder = begin(storage)
    kill(folder)
    end(storage, begin(storage), state="succeeded")
    attempts = RunFolder.open(storage, "r").record.attempts
    assert [(one.number, one.state) for one in attempts] == [
        (1, "failed"),
        (2, "interrupted"),
        (3, "interrupted"),
        (4, "lost"),
        (5, "succeeded"),
    ]
    reasons = [one.reason for one in attempts]
    assert "CUDA is out of memory" in reasons[0] and reasons[1] == "ada asked it to stop"
    assert "a signal" in reasons[2] and "its driver head-1:7 stopped answering at 20" in reasons[3] and not reasons[4]
    times = [time for one in attempts for time in (one.started, one.ended) if time]
    assert len(times) == 10 and all(one.queued is None for one in attempts)
    assert [one["reason"] for one in described(storage, "r")["attempts"]] == reasons


def test_a_lost_attempt_ended_when_its_lease_was_renewed_last(storage: Store) -> None:
    folder = begin(storage, resume=False)
    folder.run_store.put("run.json", folder.record.model_copy(update={"updated": 5.0, "created": 4.0}).to_json())
    kill(folder, renewed=1_700_000_000.0)
    (lost, _) = begin(storage).record.attempts
    assert (lost.started, lost.ended) == (4.0, 1_700_000_000.0)
    assert lost.reason == "its driver head-1:7 stopped answering at 2023-11-14 22:13:20 UTC"


@pytest.mark.parametrize("document", [b"{", b"[1]", b'{"expires": 1e300}', b'{"holder": {"a": 1}, "expires": "x"}'])
def test_a_damaged_lease_leaves_the_end_unknown(storage: Store, document: bytes) -> None:
    kill(begin(storage, resume=False))
    storage.put("r/lease.json", document)
    lost = begin(storage).record.past[0]
    assert (lost.state, lost.reason) == ("lost", ends.NOT_RECORDED)


def test_a_sweep_says_that_its_budget_was_reached(storage: Store) -> None:
    folder = begin(storage, resume=False, task="tune")
    folder.write_trial(TrialRecord(trial="t00000", index=0, state="stopped", reason=TIME_BUDGET))
    end(storage, folder, state="succeeded")
    assert begin(storage, task="tune").record.past[0].reason == TIME_BUDGET


def test_a_former_driver_writes_no_end_over_its_successor_s(storage: Store) -> None:
    folder = begin(storage, resume=False)
    theirs = RunRecord(name="r", task="train", attempt=2, past=folder.record.attempts).to_json()

    def drive() -> None:
        with attempt.recording(folder, storage, lambda event: None):
            replace_driver(storage.child("r"))
            storage.put("r/run.json", theirs)
            folder.update(state="succeeded")

    with pytest.raises(LeaseLostError):
        drive()
    assert storage.get("r/run.json") == theirs
    with pytest.raises(LeaseLostError):
        folder.fit_folder().take_attempt(0)
    FitFolder(storage.child("r")).take_attempt(0)
    folder.fit_folder().record_end("failed", "late")  # logged
    assert not storage.exists("r/attempts/a0001.end.json")


def test_a_submission_is_queued_until_its_first_driver(storage: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    first = submit(storage, monkeypatch, "s-1", seconds_ago=90)
    kill(begin(storage, resume=False))
    kill(begin(storage))  # the same submission on its next cluster
    second = submit(storage, monkeypatch, "s-2", seconds_ago=30)
    record = begin(storage).record
    assert [one.queued for one in record.attempts] == [pytest.approx(first), None, pytest.approx(second)]


@pytest.mark.parametrize("created", ["soon", None, True, -1, float("nan"), 1e99, [], 10**400])
def test_a_submission_s_time_that_is_none_is_unknown(storage: Store, created: Any) -> None:
    documents.write(storage.child("r"), ends.LAUNCH, {"submission": "s-1", "created": created})
    assert ends.queued_since(storage.child("r"), "s-1", {}) is None


def test_a_schedule_s_run_is_queued_since_its_rayjob_was_created(storage: Store) -> None:
    env = {"TRAINER_CRON_SCHEDULE": "ns/nightly 0 3 * * *", "TRAINER_RAYJOB_CREATED": "2026-01-02T03:00:04Z"}
    assert ends.queued_since(storage.child("nightly-x7k2p"), "nightly-x7k2p", env) == 1767322804.0
    assert ends.queued_since(storage.child("nightly-x7k2p"), None, env) is None


def test_an_older_run_that_is_resumed_has_what_is_known_of_it(storage: Store) -> None:
    old = begin(storage, resume=False)
    lease.release(old.run_store)
    fields = {"attempt": 3, "state": "failed", "error": "E" * 5000, "updated": 9e8}
    new = ("past", "queued", "started", "reason")
    record = {key: value for key, value in old.record.model_dump().items() if key not in new}
    documents.write(storage.child("r"), "run.json", {**record, **fields})
    (past, own) = begin(storage).record.attempts
    assert (past.number, past.started, past.ended, len(past.reason)) == (3, None, 9e8, MAX_REASON)
    assert (own.number, own.state) == (4, "running") and own.started


# --- drawn


def lines(folder: RunFolder, number: int, epochs: range, *, at: float, committed: float = 2.0) -> None:
    """One start of the fit: an epoch every 10 s, a commit after each."""
    fit_folder = folder.fit_folder()
    for epoch in epochs:
        done = at + 10 * (epoch - epochs[0] + 1)
        line = {"epoch": epoch, "time": done, "elapsed": 10.0 * (epoch + 1), "metrics": {"loss": 1.0}}
        fit_folder.append_epoch(number, {**line, "committed": committed if epoch > epochs[0] else 0.0})


def spans(phases: list[dict[str, Any]]) -> list[tuple[int, str, float, float]]:
    return [(one["attempt"], one["phase"], one["start"], one["end"]) for one in phases]


def test_the_timeline_has_each_attempt_s_phases_and_end(storage: Store) -> None:
    """Queued, stopped, resumed by another submission, lost, and lost to a worker in between."""
    past = [
        {"number": 1, "queued": 1000.0, "started": 1100.0, "ended": 1160.0, "state": "interrupted", "reason": "ada"},
        {"number": 2, "queued": 1300.0, "started": 1350.0, "ended": 1425.0, "state": "lost", "reason": "gone"},
    ]
    record = RunRecord.model_validate(
        {"name": "r", "task": "train", "created": 1100.0, "attempt": 3, "started": 1500.0, "past": past}
    )
    folder = RunFolder.create(storage, record, CONFIG)
    for number, first, at in ((1, 0, 1120.0), (2, 2, 1360.0), (3, 3, 1400.0), (4, 4, 1520.0)):
        lines(folder, number, range(first, first + 2), at=at)
    note = {"number": 2, "ended": 1390.0, "state": "lost", "reason": "a worker died"}
    documents.write(folder.run_store, "attempts/a0002.end.json", note)
    folder.run_store.put("attempts/a0003.end.json", b"{")
    run = described(storage, "r")
    (fit,) = run["fits"]
    assert spans(fit["phases"])[:9] == [
        (1, "queued", 1000.0, 1100.0),
        (1, "waiting", 1100.0, 1120.0),
        (1, "training", 1120.0, 1130.0),
        (1, "committing", 1130.0, 1132.0),
        (1, "training", 1132.0, 1140.0),
        (1, "ending", 1140.0, 1160.0),
        (1, "stopped", 1160.0, 1300.0),
        (2, "queued", 1300.0, 1350.0),
        (2, "waiting", 1350.0, 1360.0),
    ]
    reasons = {one["attempt"]: one["reason"] for one in fit["phases"] if one["reason"]}
    assert reasons[1] == "interrupted: ada" and reasons[2] == "lost: a worker died" and reasons[3] == "lost: gone"
    assert [one for one in spans(fit["phases"]) if one[1] == "lost"] == [
        (2, "lost", 1380.0, 1400.0),
        (3, "lost", 1420.0, 1425.0),
        (3, "lost", 1425.0, 1500.0),
    ]
    assert fit["phases"][-1]["phase"] == "training"  # it runs
    assert [one["committing"] for one in fit["attempts"]] == [2.0, 2.0, 2.0, 2.0]
    assert spans(run["phases"])[:4] == [
        (1, "queued", 1000.0, 1100.0),
        (1, "training", 1100.0, 1160.0),
        (1, "stopped", 1160.0, 1300.0),
        (2, "queued", 1300.0, 1350.0),
    ]
    assert any("a0003.end.json" in problem for problem in run["problems"])


def test_a_driver_under_which_no_worker_began_is_drawn_too(storage: Store) -> None:
    past = [{"number": 1, "queued": 1e9, "started": 1e9 + 50, "ended": 1e9 + 60, "state": "lost", "reason": "gone"}]
    record = {"name": "r", "task": "train", "created": 1e9 + 50, "attempt": 2, "started": 1e9 + 100, "past": past}
    folder = RunFolder.create(storage, RunRecord.model_validate({**record, "updated": 1e9 + 140}), CONFIG)
    lines(folder, 1, range(1), at=1e9 + 130)
    (fit,) = described(storage, "r")["fits"]
    assert [(number, phase, start - 1e9, end - 1e9) for number, phase, start, end in spans(fit["phases"])] == [
        (0, "queued", 0.0, 50.0),
        (0, "waiting", 50.0, 60.0),
        (0, "lost", 60.0, 100.0),
        (1, "waiting", 100.0, 130.0),
        (1, "training", 130.0, 140.0),
    ]
    assert fit["phases"][2]["reason"] == "lost: gone"


def test_a_stop_of_a_sweep_is_the_end_of_each_trial_s_attempt(storage: Store) -> None:
    past = [{"number": 1, "started": 1000.0, "ended": 1060.0, "state": "interrupted", "reason": "ada"}]
    record = {"name": "r", "task": "tune", "created": 1000.0, "attempt": 2, "started": 2000.0, "past": past}
    folder = RunFolder.create(storage, RunRecord.model_validate({**record, "updated": 2100.0}), CONFIG)
    folder.write_trial(TrialRecord(trial="t00000", index=0, started=1010.0, ended=2050.0, state="finished"))
    for number, at in ((1, 1020.0), (2, 2030.0)):
        fit = folder.fit_folder("t00000")
        fit.append_epoch(number, {"epoch": number - 1, "time": at + 10, "elapsed": 10.0 * number, "metrics": {}})
    run = described(storage, "r")
    assert [one[:2] for one in spans(run["fits"][0]["phases"])] == [
        (1, "waiting"),
        (1, "training"),
        (1, "ending"),
        (1, "stopped"),
        (2, "waiting"),
        (2, "training"),
        (2, "ending"),
    ]
    assert [one["reason"] for one in run["fits"][0]["phases"] if one["reason"]] == ["interrupted: ada", "done"]
    assert [one[:2] for one in spans(run["phases"])] == [(1, "training"), (1, "stopped"), (2, "training")]


def test_the_last_commit_of_a_fit_took_what_its_manifest_says(storage: Store) -> None:
    record = RunRecord(name="r", task="train", created=100.0, updated=200.0, state="succeeded")
    folder = RunFolder.create(storage, record, CONFIG)
    lines(folder, 1, range(2), at=110.0)
    name = commit(folder.fit_folder(), 2, {"loss": 1.0}, began=131.0, seconds=4.0)
    (fit,) = described(storage, "r")["fits"]
    assert [one["name"] for one in fit["checkpoints"]] == [name]
    committing = [one[2:] for one in spans(fit["phases"]) if one[1] == "committing"]
    assert committing == [(120.0, 122.0), (131.0, 135.0)] and fit["attempts"][0]["committing"] == 6.0


def test_the_end_of_a_start_is_recorded_once_and_of_none_not_at_all(storage: Store) -> None:
    fit_folder = FitFolder(storage.child("r"))
    fit_folder.record_end("lost", "before the first")
    assert not list(storage.list())
    fit_folder.take_attempt(0)
    fit_folder.record_end("failed", "first")
    fit_folder.record_end("lost", "of a start that never came to a number")
    assert fit_folder.take_attempt(0) == 2
    assert [entry.key for entry in storage.list()] == [
        "r/attempts/a0001.end.json",
        "r/attempts/a0001.json",
        "r/attempts/a0002.json",
    ]
    assert b'"first"' in storage.get("r/attempts/a0001.end.json")


def test_what_starts_and_ends_leave_is_no_damage(storage: Store) -> None:
    folder = RunFolder.create(storage, RunRecord(name="r", task="train"), CONFIG)
    fit_folder = folder.fit_folder()
    fit_folder.take_attempt(0)
    fit_folder.record_end("failed", "first")
    fit_folder.take_attempt(0)
    run = results.read_run(storage, "r")
    assert run.problems == []
    assert [(one.number, one.end and one.end.reason) for one in run.fits[0].attempts] == [(1, "first"), (2, None)]


def test_a_trial_that_its_scheduler_paused_waits_and_is_not_lost(storage: Store) -> None:
    record = {"name": "r", "task": "tune", "created": 1000.0, "started": 1000.0, "updated": 1200.0}
    folder = RunFolder.create(storage, RunRecord.model_validate({**record, "state": "succeeded"}), CONFIG)
    folder.write_trial(TrialRecord(trial="t00000", index=0, started=1010.0, ended=1150.0, state="finished"))
    for number, at in ((1, 1020.0), (2, 1120.0)):
        fit = folder.fit_folder("t00000")
        fit.append_epoch(number, {"epoch": number - 1, "time": at + 10, "elapsed": 10.0 * number, "metrics": {}})
    phases = described(storage, "r")["fits"][0]["phases"]
    assert spans(phases)[1:4] == [
        (1, "training", 1020.0, 1030.0),
        (1, "waiting", 1030.0, 1120.0),
        (2, "training", 1120.0, 1130.0),
    ]
    assert phases[2]["reason"].startswith("its scheduler paused it")
