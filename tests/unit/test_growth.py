"""Work does not grow faster than what it is about: requests and bytes, counted for n and 2 n."""

from __future__ import annotations

import argparse
import importlib.util
import sys
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from tests.faulty_store import Faults, FaultyStore
from tests.run_samples import SWEEP_FILE, commit, epoch, sweep_config
from tests.unit.tree import ROOT
from trainer_app import results
from trainer_app.checkpoint import list_commits
from trainer_app.checkpoint.leftovers import remove_leftovers
from trainer_app.launch import changes, follow, stored_logs
from trainer_app.launch.kube import Kube
from trainer_app.launch.location import RunLocation
from trainer_app.records import RunFolder, RunRecord, TrialRecord, trial_name
from trainer_app.results import listing
from trainer_app.run.attempt import commit_position, stop_position
from trainer_app.run.progress import RecordedProgress
from trainer_app.storage import Store, open_store
from trainer_app.tuning import history, schedulers
from trainer_app.tuning.plan import plan_search

pytestmark = pytest.mark.unit
EPOCHS = 3


@pytest.fixture(autouse=True)
def _without_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


class CountingStore(FaultyStore):
    """A store that notes the requests of itself and its children as (method, key); `list` may take several."""

    @property
    def requests(self) -> list[tuple[str, str]]:
        return self.faults.requests

    def count(self) -> Counter[str]:
        return Counter(method for method, _ in self.requests)


def counting(folder: Path) -> CountingStore:
    return CountingStore(open_store(str(folder)), Faults())


def make_sweep(
    storage: Store,
    trials: int,
    *,
    name: str = "sweep",
    state: Any = "finished",
    epochs: int = EPOCHS,
    scheduler: Any = None,
) -> RunFolder:
    """A sweep with this many trials, each with its metrics and two checkpoints; the record has no `done`.

    `scheduler`: the one that saw the trials; None if their records do not say it.
    """
    record = RunRecord(name=name, task="tune", metric="loss", mode="min", epochs=epochs, num_samples=trials)
    folder = RunFolder.create(storage, record, "")
    for index in range(trials):
        trial, best = trial_name(index), 1.0 + (index * 7) % trials
        fit_folder = folder.fit_folder(trial)
        for number in range(epochs):
            epoch(fit_folder, number, {"loss": best + epochs - 1 - number})
        for number in range(epochs - 2, epochs):
            commit(fit_folder, number + 1, {"loss": best + epochs - 1 - number})
        about = {"epochs": epochs, "metrics": {"loss": best}, "best": best, "best_epoch": epochs - 1, "ended": 9.0}
        about = about if state in ("finished", "failed") else {}
        if scheduler:
            results = [(number + 1, best + epochs - 1 - number) for number in range(epochs)]
            about["seen"] = history.seen_by(scheduler, results)
        folder.write_trial(
            TrialRecord(trial=trial, index=index, params={"model.init_args.lr": 0.5}, state=state, **about)
        )
    return folder


@pytest.mark.parametrize("runs", [8, 16])
def test_a_list_takes_one_request_a_run(runs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of runs that were killed while running, before their records had `done`."""
    for number in range(runs):
        storage = open_store(str(tmp_path))
        fields = {"state": "running", "created": float(number)} if number % 2 else {"done": 2, "best": 0.5}
        folder = RunFolder.create(storage, RunRecord(name=f"r{number}", task="train", metric="loss", **fields), "")
        epoch(folder.fit_folder(), 0, {"loss": 1.0})
        commit(folder.fit_folder(), 1, {"loss": 1.0})
    store = counting(tmp_path)
    monkeypatch.setattr("trainer_app.results.listing.open_store", lambda uri: store)
    listed = results.list_runs("x")
    assert len(listed) == runs and {run.done for run in listed} == {None, 2}
    assert store.count() == {"list_folders": 1, "get": runs}


@pytest.mark.parametrize("damage", [b"", b'{"name": 7}', None])
def test_a_list_makes_some_damaged_records_again(
    damage: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that is no run costs one request more, and no list more than for so many."""
    runs = listing.REBUILDS + 5
    for number in range(runs):
        folder = make_sweep(open_store(str(tmp_path)), 1, name=f"r{number:03d}")
        folder.write_config(SWEEP_FILE % (3, 4, "asha", "random"))
        folder.run_store.delete("run.json") if damage is None else folder.run_store.put("run.json", damage)
    store = counting(tmp_path)
    monkeypatch.setattr("trainer_app.results.listing.open_store", lambda uri: store)
    listed = results.list_runs("x")
    made = [run for run in listed if run.record]
    assert len(made) == listing.REBUILDS and len(listed) == (len(made) if damage is None else runs)
    assert all("made again" in str(run.problem) for run in made) and all(run.problem for run in listed)
    assert {run.record and (run.record.task, run.record.state, run.record.metric) for run in made} == {
        ("tune", "interrupted", "loss")
    }
    assert store.count() == {"list_folders": 1, "get": runs + 3 * len(made), "list": len(made)}
    for number in range(30):
        (tmp_path / f"no-run-{number}" / "x").mkdir(parents=True)
    store.requests.clear()
    results.list_runs("x")
    assert store.count()["get"] <= runs + 30 + 3 * listing.REBUILDS


def test_a_running_runs_record_says_how_far_it_is(tmp_path: Path) -> None:
    """What `list` shows of a run whose driver was killed."""
    storage = open_store(str(tmp_path))
    for task, done in (("train", 3), ("tune", 1)):
        record = RunRecord(name=task, task=task, metric="loss", mode="min", updated=5.0)
        folder, events = RunFolder.create(storage, record, ""), list[Any]()
        progress = RecordedProgress(folder, events.append)
        progress.write()
        assert RunFolder.open(storage, task).record.updated == 5.0  # nothing has changed
        trial = None if task == "train" else "t00000"
        for number, value in enumerate((3.0, 1.0, 2.0)):
            progress.emit({"event": "epoch", "trial": trial, "epoch": number, "metrics": {"loss": value}})
        for name, state in (("t00000", "finished"), ("t00001", "running")) if trial else ():
            progress.emit({"event": "trial", "trial": name, "state": state, "metric": 2.0})
        progress.write()
        record = RunFolder.open(storage, task).record
        assert (record.done, record.best, record.state) == (done, 1.0, "running") and record.updated > 5.0
        assert {run.name: (run.done, run.best) for run in results.list_runs(str(tmp_path))}[task] == (done, 1.0)


@pytest.mark.parametrize("trials", [8, 16])
@pytest.mark.parametrize(
    "scheduler, searcher, recorded",
    [
        ("fifo", "random", True),
        ("hyperband", "random", True),
        ("fifo", "optuna", True),
        ("asha", "random", True),
        ("median", "random", True),
        ("asha", "random", False),
        ("median", "random", False),
    ],
)
def test_a_resume_reads_each_trials_record(
    scheduler: str, searcher: str, recorded: bool, trials: int, tmp_path: Path
) -> None:
    """Its metrics too if an earlier version wrote the record, and the scheduler learns from them."""
    config = sweep_config(scheduler, searcher)
    built = schedulers.build(config, epochs=3)
    make_sweep(open_store(str(tmp_path)), trials, scheduler=built if recorded else None)
    store = counting(tmp_path)
    meeting = threading.Barrier(4)  # four requests at once, or the test fails
    store.faults.matches = lambda method, key: bool(method == "get" and "/t0" in key and meeting.wait(20) < 0)
    folder = RunFolder.open(cast(Store, store), "sweep")
    records = {record.trial: record for record in folder.read_trials()}
    planned = plan_search(config, folder, records, built, concurrency=2)
    assert (planned.start, planned.unfinished) == (trials, [])
    read = {"get": 1 + trials} if recorded else {"get": 1 + 2 * trials, "list": trials}
    assert store.count() == {"list_folders": 2, **read}
    if planned.searcher:
        assert len(cast(Any, planned.searcher)._ot_study.trials) == trials


@pytest.mark.parametrize("commits", [8, 16])
def test_the_newest_checkpoint_is_found_by_its_name(commits: int, tmp_path: Path) -> None:
    folder = RunFolder.create(open_store(str(tmp_path)), RunRecord(name="r", task="train"), "")
    for number in range(commits):
        commit(folder.fit_folder(), number + 1, {})
    folder.fit_folder().checkpoints.put(f"a0001-e{commits + 1:06d}-s000009999/checkpoint.ckpt", b"")  # not committed
    store = counting(tmp_path)
    fit_folder = RunFolder.open(cast(Store, store), "r").fit_folder()
    assert commit_position(fit_folder)["epochs"] == commits
    assert store.count() == {"list_folders": 1, "get": 3}  # run.json, one that is not there, and the newest
    store.requests.clear()
    store.list_unfinished = list  # type: ignore[method-assign]
    fit_folder.store.list_unfinished = list  # type: ignore[method-assign]
    remove_leftovers(fit_folder, 2)
    assert store.count() == {"list": 1, "delete_prefix": 1}
    meeting = threading.Barrier(4)  # where all are read, four at once
    store.faults.matches = lambda method, key: bool(method == "get" and meeting.wait(20) < 0)
    assert len(list_commits(fit_folder.checkpoints)) == commits


@pytest.mark.parametrize("trials", [8, 16])
def test_a_stop_asks_for_one_manifest_a_trial(trials: int, tmp_path: Path) -> None:
    make_sweep(open_store(str(tmp_path)), trials, state="running")
    store = counting(tmp_path)
    folder = RunFolder.open(cast(Store, store), "sweep")
    position = stop_position(folder, folder.read_trials())
    assert len(position["trials"]) == trials and position["epochs"] == EPOCHS
    assert store.count() == {"list_folders": 1 + trials, "get": 1 + 2 * trials}


@pytest.mark.parametrize("trials", [8, 16])
@pytest.mark.parametrize("epochs", [3, 30])
def test_a_sweeps_end_is_told_from_its_records(trials: int, epochs: int, tmp_path: Path) -> None:
    """Its requests do not depend on the epochs; the answer is that of all metrics and manifests."""
    storage = open_store(str(tmp_path))
    make_sweep(storage, trials, epochs=epochs)
    store = counting(tmp_path)
    outcome = results.read_outcome(cast(Store, store), "sweep")
    assert store.count() == {"list_folders": 1, "list": 2, "get": 1 + trials + 2}  # two manifests of the best trial
    assert not any("/metrics/" in key for _, key in store.requests)
    whole = results.read_run(storage, "sweep")
    assert (outcome.done, outcome.summary, outcome.checkpoint) == (trials, whole.summary, whole.checkpoint)
    assert all(not fit.history for fit in outcome.fits)
    store.requests.clear()
    one = results.read_outcome(cast(Store, store), "sweep", trial="t00003").fits[3]
    assert (one.history, one.checkpoints) == (whole.fits[3].history, whole.fits[3].checkpoints)
    assert sum("/metrics/" in key for _, key in store.requests) == -(-epochs // 500)


def test_trials_that_did_not_end_are_read_at_the_end(tmp_path: Path) -> None:
    storage = open_store(str(tmp_path))
    folder = make_sweep(storage, 4)
    folder.write_trial(TrialRecord(trial="t00000", index=0, state="running"))
    folder.fit_folder("t00000").append_epoch(2, {"epoch": 3, "metrics": {"loss": 0.25}})
    folder.run_store.put("trials/t00001/trial.json", b"{")
    folder.write_trial(TrialRecord(trial="t00002", index=2, state="failed", error="boom", ended=9.0))
    folder.fit_folder("t00009").append_epoch(1, {"epoch": 0, "metrics": {"loss": 9.0}})
    outcome, whole = results.read_outcome(storage, "sweep"), results.read_run(storage, "sweep")
    assert outcome.best and (outcome.best.trial, outcome.best.epoch, outcome.best.value) == ("t00000", 3, 0.25)
    assert (outcome.done, outcome.summary) == (whole.done, whole.summary) and len(outcome.problems) == 1


# --- logs


def test_of_a_stored_log_only_what_is_new_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[int] = []
    inner = open_store(str(tmp_path))

    class Measured(CountingStore):
        def child(self, prefix: str) -> Measured:
            return Measured(self.inner.child(prefix), self.faults, f"{self.prefix}{prefix}/")

        def _request(self, method: str, key: str = "", *args: Any, **options: Any) -> Any:
            answer = super()._request(method, key, *args, **options)
            fetched.append(len(answer) if method == "get" else 0)
            return answer

    store = Measured(inner, Faults())
    monkeypatch.setattr("trainer_app.launch.remote_run.open_store", lambda uri: store)
    monkeypatch.setattr(stored_logs, "POLL_S", 0.0)
    lines: list[str] = []
    tail = stored_logs.LogTail(RunLocation("demo", str(tmp_path), "", "", ""), lines.append, workers=True)
    logs = inner.child("demo/logs")
    for number in range(5):
        logs.put(f"worker-{number}/out.000.log", b"x" * 99 + b"\n")
    tail.read()
    assert sum(fetched) == 500 and len(lines) == 5
    fetched.clear()
    store.requests.clear()
    for _ in range(3):
        tail.read()
    assert sum(fetched) == 0 and store.count() == {"list": 3}
    text = "träg".encode()
    logs.put("worker-1/out.000.log", b"x" * 99 + b"\n" + text[:3])  # ends within a character
    tail.read()
    logs.put("worker-1/out.000.log", b"x" * 99 + b"\n" + text + b"\n")
    logs.put("worker-1/out.001.log", b"next part, ")
    tail.read()
    logs.put("worker-1/out.001.log", b"next part, whole\nlast")
    logs.put("worker-2/out.000.log", b"anew\n")
    tail.read()
    assert sum(fetched) == len(text) + 1 + len(b"next part, whole\nlast") + len(b"anew\n")
    assert lines[5:] == ["worker-1/out: träg", "worker-1/out: next part, whole", "worker-2/out: anew"]
    tail.read_rest()
    tail.read_rest()
    assert lines[8:] == ["worker-1/out: last"]


@pytest.mark.parametrize("row", ["end", "newest", "logs"])
def test_the_bench_makes_what_is_read(row: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_logs, "POLL_S", 0.0)  # the bench sets it for its process
    spec = importlib.util.spec_from_file_location("scale", ROOT / "bench/scale.py")
    assert spec and spec.loader
    scale: Any = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "scale", scale)
    spec.loader.exec_module(scale)
    traffic, size = scale.Traffic(), argparse.Namespace(runs=4, trials=4, epochs=20)
    seconds, said = scale.ROWS[row][1]("", traffic, size)
    assert said == {"end": "4 trials, best 1.05", "newest": "epoch 20", "logs": "10 lines"}[row]
    assert scale.problems(row, {**vars(traffic), "seconds": seconds, "peak": 0.0}, size) == []


# --- the cluster


class Cluster:
    """A run that changes when the test says; it counts what is asked of it, and how often of all pods."""

    namespace = "team"

    def __init__(self, *, may_watch: bool = True) -> None:
        self.may_watch, self.asked = may_watch, Counter[str]()
        self.status = "Running"
        self.turn, self.never = threading.Semaphore(0), threading.Semaphore(0)
        self.ends = False  # whether a watch ends after what it begins with

    def rayjob(self) -> Any:
        meta = {"name": "demo", "labels": {}, "creationTimestamp": "1"}
        over = self.status == "Complete"
        status = {"jobDeploymentStatus": self.status, "jobStatus": "SUCCEEDED" if over else "RUNNING"}
        return {"metadata": meta, "spec": {}, "status": {**status, "rayClusterName": "demo-abcde"}}

    def get(self, kind: str, name: str) -> Any:
        self.asked[f"get {kind}"] += 1
        return self.rayjob()

    def list(self, kind: str, *, labels: Any = None, fields: Any = None) -> list[Any]:
        self.asked[f"list {kind}{'' if labels else ' of all'}"] += 1
        return []

    def watch(self, kind: str, *, timeout_s: int, **selectors: str) -> Any:
        from trainer_app.errors import AccessDeniedError

        assert (
            selectors
            == {"RayJob": {"fieldSelector": "metadata.name=demo"}, "Pod": {"labelSelector": "trainer/run=demo"}}[kind]
        )
        self.asked[f"watch {kind}"] += 1
        if not self.may_watch:
            raise AccessDeniedError("pods is forbidden")
        yield b"ADDED"
        while not self.ends:
            if not (self.turn if kind == "RayJob" else self.never).acquire(timeout=20):
                return
            yield b"MODIFIED"


def until_asked(cluster: Cluster, what: str, count: int) -> None:
    for _ in range(2000):
        if cluster.asked[what] >= count:
            return
        threading.Event().wait(0.005)
    raise AssertionError(cluster.asked)


def start_following(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    monkeypatch.setattr(follow, "POLL_S", 0.02)
    codes: list[int] = []
    run = partial(follow.follow_run, cast(Kube, cluster), "demo", say=lambda line: None, show=None)
    thread = threading.Thread(target=lambda: codes.append(run()), daemon=True)
    thread.start()

    def end() -> int:
        thread.join(20)
        return codes[0]

    return end


def test_a_run_is_asked_for_when_it_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster()
    end = start_following(cluster, monkeypatch)
    until_asked(cluster, "get RayJob", 2)  # the run, and what the watches begin with
    threading.Event().wait(0.3)  # 15 times POLL_S
    idle = cluster.asked["get RayJob"]
    assert idle <= 4 and cluster.asked["watch RayJob"] == 1
    for number in range(5):
        cluster.turn.release()
        until_asked(cluster, "get RayJob", idle + number + 1)
    cluster.status = "Complete"
    cluster.turn.release()
    assert end() == 0
    assert cluster.asked["get RayJob"] <= idle + 7
    assert cluster.asked["list Pod"] <= 3 * cluster.asked["get RayJob"] and not cluster.asked["list Pod of all"]


def test_who_may_not_watch_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(may_watch=False)
    end = start_following(cluster, monkeypatch)
    until_asked(cluster, "get RayJob", 6)
    assert (cluster.asked["watch RayJob"], cluster.asked["watch Pod"]) == (1, 1)
    cluster.status = "Complete"
    assert end() == 0


def test_a_watch_that_ends_begins_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one begins with what is there, so that a lost change is seen."""
    cluster = Cluster()
    cluster.ends = True
    with changes.Changes(cast(Kube, cluster), "demo", poll_s=0.01) as waiting:
        until_asked(cluster, "watch Pod", 3)
        waiting.wait(20)
        for _ in range(3):
            waiting.wait(20)
