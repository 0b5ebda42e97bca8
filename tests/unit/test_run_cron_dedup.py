"""KubeRay may create two RayJobs for one time of a schedule: one of them becomes a run."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.faulty_store import Faults, FaultyStore
from tests.unit import fake_driver
from tests.unit.test_run_decision import driven
from tests.unit.test_run_request import RUN_FILE
from trainer_app.__main__ import main
from trainer_app.errors import AccessDeniedError, AlreadyExistsError, StorageError
from trainer_app.run import cron_dedup, documents, identity
from trainer_app.storage import Store, open_store

pytestmark = pytest.mark.unit
REAL_START = cron_dedup.container_start
NIGHTLY = {"TRAINER_CRON_SCHEDULE": "team/nightly 0 3 * * *", "TRAINER_CLUSTER_CA": "here"}


@pytest.fixture
def storage(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "runs"))


@pytest.fixture(autouse=True)
def new_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cron_dedup, "container_start", time.time)


def notes(storage: Store) -> list[str]:
    return [entry.key for entry in storage.list(cron_dedup.FOLDER)]


def aged(storage: Store, seconds: float) -> None:
    """The last start was so long ago."""
    key = notes(storage)[-1]
    store = storage.child(cron_dedup.FOLDER)
    found = documents.read(store, key) or {}
    documents.write(store, key, {**found, "began": time.time() - seconds})


def test_the_second_of_two_leaves_it_to_the_first(storage: Store) -> None:
    assert cron_dedup.owner_of_tick(storage, "nightly-aaaaa", NIGHTLY) is None
    assert cron_dedup.owner_of_tick(storage, "nightly-bbbbb", NIGHTLY) == "nightly-aaaaa"
    assert cron_dedup.owner_of_tick(storage, "nightly-aaaaa", NIGHTLY) is None  # its driver was lost, and begins again
    assert len(notes(storage)) == 1


def test_the_next_time_is_another_firing(storage: Store) -> None:
    for number, run in enumerate(("nightly-aaaaa", "nightly-bbbbb", "nightly-ccccc")):
        assert cron_dedup.owner_of_tick(storage, run, NIGHTLY) is None
        assert cron_dedup.owner_of_tick(storage, "nightly-zzzzz", NIGHTLY) == run
        assert len(notes(storage)) == number + 1
        aged(storage, 7 * cron_dedup.HOUR)


def test_old_notes_are_removed(storage: Store) -> None:
    for number in range(cron_dedup.KEPT + 3):
        assert cron_dedup.owner_of_tick(storage, f"nightly-{number:05d}", NIGHTLY) is None
        aged(storage, 7 * cron_dedup.HOUR * (cron_dedup.KEPT + 4 - number))
    assert len(notes(storage)) == cron_dedup.KEPT


@pytest.mark.parametrize("schedule, seconds", [("*/5 * * * *", 300), ("0 */6 * * *", 21_600)])
def test_drivers_of_one_tick_may_begin_any_time_apart(
    storage: Store, schedule: str, seconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one waited for its node until after the next ticks; it ran as well."""
    tick = 1_795_910_400
    env = {"TRAINER_CRON_SCHEDULE": f"team/cron {schedule}"}

    def created(late: int) -> dict[str, str]:
        stamp = datetime.fromtimestamp(tick + late, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")  # as Kubernetes writes it
        return {**env, "TRAINER_RAYJOB_CREATED": stamp}

    assert cron_dedup.owner_of_tick(storage, "cron-aaaaa", created(1)) is None
    assert cron_dedup.owner_of_tick(storage, "cron-ccccc", created(seconds)) is None
    assert cron_dedup.owner_of_tick(storage, "cron-ddddd", created(2 * seconds + 1)) is None
    assert cron_dedup.owner_of_tick(storage, "cron-bbbbb", created(2)) == "cron-aaaaa"
    named = f"cron-{(tick + 3 * seconds) // 60}"  # by KubeRay 1.7
    assert cron_dedup.owner_of_tick(storage, named, env) is None
    assert cron_dedup.owner_of_tick(storage, "cron-eeeee", created(3 * seconds + 2)) == named


def test_without_the_api_the_heads_start_counts(storage: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not the driver's, which waits for the nodes of its workers."""
    now = time.time()
    for run, began, owner in (("aaaaa", 4000, None), ("bbbbb", 3990, "nightly-aaaaa"), ("ccccc", 400, None)):
        monkeypatch.setattr(cron_dedup, "container_start", lambda began=began: now - began)
        env = {"TRAINER_CRON_SCHEDULE": "team/nightly 0 * * * *"}
        assert cron_dedup.owner_of_tick(storage, f"nightly-{run}", env) == owner


def test_the_start_of_a_container_is_that_of_its_first_process(monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, "-c", "input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as first:
        ticks = identity.start_ticks(first.pid)
        monkeypatch.setattr(identity, "start_ticks", lambda pid: ticks)
        assert abs(REAL_START() - time.time()) < 30
        first.communicate(b"\n")
    monkeypatch.setattr(identity, "start_ticks", lambda pid: int("no number"))
    assert abs(REAL_START() - time.time()) < 30  # where the system does not say


@pytest.mark.parametrize(
    "other",
    [
        {"TRAINER_CRON_SCHEDULE": "team-b/nightly 0 3 * * *"},
        {"TRAINER_CRON_SCHEDULE": "team/nightly 30 3 * * *"},  # changed, to try it now
        {"TRAINER_CLUSTER_CA": "there"},
    ],
)
def test_another_schedule_is_another_firing(storage: Store, other: dict[str, str]) -> None:
    assert cron_dedup.owner_of_tick(storage, "nightly-aaaaa", NIGHTLY) is None
    assert cron_dedup.owner_of_tick(storage, "nightly-bbbbb", {**NIGHTLY, **other}) is None


def test_a_run_that_has_begun_goes_on_whenever_that_is(storage: Store) -> None:
    documents.write(storage.child("nightly-aaaaa"), "submission.json", {"submission": "nightly-aaaaa"})
    assert cron_dedup.owner_of_tick(storage, "nightly-bbbbb", NIGHTLY) is None
    assert cron_dedup.owner_of_tick(storage, "nightly-aaaaa", NIGHTLY) is None


def test_nothing_is_noted_of_a_run_that_was_submitted(storage: Store) -> None:
    assert cron_dedup.owner_of_tick(storage, "toy-1", {}) is None
    assert notes(storage) == []


def test_of_many_at_once_one_has_it(storage: Store) -> None:
    answers: dict[str, str | None] = {}
    gate = threading.Barrier(8)

    def begin(run: str) -> None:
        gate.wait()
        answers[run] = cron_dedup.owner_of_tick(storage, run, NIGHTLY)

    threads = [threading.Thread(target=begin, args=(f"nightly-{number:05d}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [run for run, other in answers.items() if other is None]
    assert set(answers.values()) == {None, winner}


@pytest.mark.parametrize(
    "schedule, seconds",
    [
        ("* * * * *", 30),
        ("*/5 * * * *", 150),
        ("*/30 * * * *", 900),
        ("0,30 3 * * *", 900),
        ("50-58/4 * * * *", 120),
        ("0 */6 * * *", 3 * 3600),
        ("0 1,23 * * *", 3600),
        ("5/20 ? * * *", 600),
        ("15 * * * *", 1800),
        ("15 */2 * * 1-5", 3600),
        ("0 3 * * *", 6 * 3600),
        ("TZ=Europe/Berlin 0 3 1 * *", 6 * 3600),
        ("@hourly", 1800),
        ("@daily", 6 * 3600),
        ("@weekly", 6 * 3600),
        ("@every 1h30m", 2700),
        ("@every 90s", 45),
        ("@every 48h", 6 * 3600),
        ("@every 10s500ms", 5),
    ],
)
def test_how_far_apart_firings_are(schedule: str, seconds: float) -> None:
    assert cron_dedup.dedup_window_s(schedule) == seconds


def test_the_driver_of_the_second_ends_well_and_leaves_nothing(
    tmp_path: Path, storage: Store, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (tmp_path / "run.yaml").write_text(RUN_FILE)
    calls = driven(monkeypatch, fake_driver.quick)
    for name, value in {**NIGHTLY, "TRAINER_RUN_FROM_CLUSTER": "1", "TRAINER_STORAGE_URI": storage.uri}.items():
        monkeypatch.setenv(name, value)
    for run in ("nightly-aaaaa", "nightly-bbbbb"):
        monkeypatch.setenv("RAY_CLUSTER_NAME", f"{run}-xxxxx")
        assert main(["tune", str(tmp_path / "run.yaml"), "--log", "-"]) == 0
    assert len(calls) == 1
    message = "run nightly-bbbbb: KubeRay triggered the schedule twice, and run nightly-aaaaa was first"
    assert f"{message}; nothing was started" in capsys.readouterr().err
    assert [name for name in storage.list_folders() if name != cron_dedup.FOLDER] == ["nightly-aaaaa"]


def faulty(storage: Store, method: str, error: Exception) -> Any:
    return FaultyStore(storage, Faults(always=error, matches=lambda asked, key: asked == method))


def test_a_note_that_is_always_taken_is_not_asked_for_without_end(
    storage: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cron_dedup, "PAUSE_S", 0.001)
    with pytest.raises(StorageError, match="50 notes of the schedule were taken"):
        cron_dedup.owner_of_tick(faulty(storage, "put", AlreadyExistsError("taken")), "nightly-aaaaa", NIGHTLY)


def test_a_bucket_without_deletion_and_other_objects_end_no_tick(storage: Store) -> None:
    denied = faulty(storage, "delete", AccessDeniedError("no deletion"))
    for run in ("nightly-aaaaa", "nightly-bbbbb", "nightly-ccccc"):
        assert cron_dedup.owner_of_tick(denied, run, NIGHTLY) is None
        aged(storage, 7 * cron_dedup.HOUR)
    storage.put(f"{cron_dedup.FOLDER}/{notes(storage)[-1].partition('/')[0]}/zzz.txt", b"")
    assert cron_dedup.owner_of_tick(denied, "nightly-ddddd", NIGHTLY) is None


@pytest.mark.parametrize(
    "schedule, first, second, same",
    [
        ("*/5 * * * *", "10:03:00", "10:05:01", False),  # the operator was away at 10:00
        ("0 * * * *", "03:40:00", "04:00:01", False),
        ("* * * * *", "10:00:45", "10:01:01", False),
        ("0 * * * *", "03:40:00", "03:40:06", True),
        ("*/5 * * * *", "10:04:58", "10:05:03", True),  # by another clock
        ("@hourly", "03:40:00", "04:00:01", False),
        ("@every 1h", "03:40:00", "04:00:01", True),  # nobody knows when it ticks
        ("TZ=Asia/Kolkata 0 * * * *", "03:20:00", "03:31:00", False),  # half an hour beside UTC
        ("TZ=No/Such 0 * * * *", "03:40:00", "04:00:01", False),
        ("CRON_TZ=Europe/Berlin 30 2 * * *", "00:30:01", "01:30:01", True),  # the hour that comes twice
    ],
)
def test_a_tick_between_two_rayjobs_makes_them_two(
    storage: Store, schedule: str, first: str, second: str, *, same: bool
) -> None:
    env = {"TRAINER_CRON_SCHEDULE": f"team/cron {schedule}"}
    owners = [
        cron_dedup.owner_of_tick(storage, run, {**env, "TRAINER_RAYJOB_CREATED": f"2026-10-25T{at}Z"})
        for run, at in (("cron-aaaaa", first), ("cron-bbbbb", second))
    ]
    assert owners == [None, "cron-aaaaa" if same else None]


@pytest.mark.parametrize("began", ["x", [], {}, float("nan"), float("inf"), -1, 1e300, 10**400, True, None])
def test_a_note_that_is_none_ends_no_tick(storage: Store, began: Any) -> None:
    assert cron_dedup.owner_of_tick(storage, "nightly-aaaaa", NIGHTLY) is None
    (key,) = notes(storage)
    store = storage.child(cron_dedup.FOLDER)
    store.put(key, json.dumps({"run": ["x"], "began": began}).encode())
    store.put(key.replace("00000001", "99999999"), b'{"run": {}, "began": "y"}')
    assert cron_dedup.owner_of_tick(storage, "nightly-bbbbb", NIGHTLY) is None
    assert cron_dedup.owner_of_tick(storage, "nightly-ccccc", NIGHTLY) == "nightly-bbbbb"
