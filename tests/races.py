"""Two drivers of one run at once, on any storage: who holds the lease, and whose records and commits are there."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from trainer_app.checkpoint import Manifest, download_commit, list_commits, write_commit
from trainer_app.errors import LeaseLostError
from trainer_app.records import FitFolder, RunFolder, RunRecord, TrialRecord
from trainer_app.run import lease
from trainer_app.run.fence import fenced
from trainer_app.run.lease_file import number_of, read
from trainer_app.storage import Store

STEPS = 4
METHODS = ("tag", "put", "put_file", "get", "get_file", "exists", "list", "list_folders", "delete", "delete_prefix")


class SlowStore:
    """A store whose writes take a while, before they arrive or after; `ignorant`: it ignores their conditions."""

    def __init__(self, inner: Any, pause: Callable[[str], None], *, ignorant: bool = False) -> None:
        self.inner, self.pause, self.ignorant, self.uri = inner, pause, ignorant, inner.uri

    def child(self, prefix: str) -> Any:
        return SlowStore(self.inner.child(prefix), self.pause, ignorant=self.ignorant)

    def put(self, key: str, data: bytes, **conditions: Any) -> None:
        self.pause(key)
        self.inner.put(key, data, **({} if self.ignorant else conditions))
        self.pause(key)

    def put_file(self, key: str, path: Any) -> None:
        self.pause(key)
        self.inner.put_file(key, path)
        self.pause(key)

    def __getattr__(self, method: str) -> Any:
        if method not in METHODS:
            raise AttributeError(method)
        return getattr(self.inner, method)


def lease_of(store: Any, host: str) -> lease.Lease:
    """The lease of a driver on another machine."""
    made = lease.Lease(store, host)
    made.me = replace(made.me, host=host, machine=host)
    return made


@dataclass
class Race:
    """One run, whose driver is replaced while it works on: two drivers, each with a worker of the same fit."""

    storage: Store
    name: str
    folder: Path  # for payloads
    numbers: dict[int, str] = field(default_factory=dict)  # the driver of each acquisition

    def run(self) -> None:
        RunFolder.create(self.storage, RunRecord(name=self.name, task="tune"), "name: toy\n")
        gate = threading.Barrier(2)
        with ThreadPoolExecutor(2) as pool:
            ended = [pool.submit(self._drive, host, gate) for host in ("head-1", "head-2")]
            for one in ended:
                one.result()
        self.check()

    def _drive(self, host: str, gate: threading.Barrier) -> None:
        wait = random.Random(f"{self.name} {host}")
        store: Any = SlowStore(self.storage, lambda key: time.sleep(wait.choice((0, 0, 0.001, 0.01))))
        run_store = store.child(self.name)
        held = lease_of(run_store, host)
        gate.wait()
        held.acquire(wait=True, say=lambda text: None)
        number = number_of(held._document(0.0))
        assert number not in self.numbers, "two acquisitions have one number"
        self.numbers[number] = host
        with suppress(LeaseLostError):
            self._work(fenced(run_store, held.token), host, number)
        held._guard.stop()  # it does not release: it was cut off, or killed

    def _work(self, run_store: Store, host: str, number: int) -> None:
        """Write what driver, recorder and worker write, until another driver has the lease, or for a while alone."""
        folder = RunFolder(run_store, RunFolder.open(self.storage, self.name).record)
        fit_folder = folder.fit_folder("t00000")
        attempt = fit_folder.take_attempt(after=0)
        payload = self.folder / f"{self.name}-{host}"
        payload.write_bytes(host.encode() * 1000)
        for step in range(STEPS if number > 1 else 1000):
            folder.update(state="failed", final=number == 1, error=host, attempt=number)
            folder.write_trial(TrialRecord(trial="t00000", index=0, state="failed", error=host, attempts=number))
            manifest = Manifest(
                epochs=step + 1, step=step, attempt=attempt, world_size=1, time=0.0, versions={"host": host}
            )
            write_commit(fit_folder.checkpoints, payload, manifest)

    def check(self) -> None:
        """The winner's records are there, and each commit is one process's."""
        number = max(self.numbers)
        winner = self.numbers[number]
        assert sorted(self.numbers.values()) == ["head-1", "head-2"]
        folder = RunFolder.open(self.storage, self.name)
        (trial,) = folder.read_trials()
        assert (folder.record.error, folder.record.attempt, folder.record.final) == (winner, number, False)
        assert (trial.error, trial.attempts) == (winner, number)
        assert (read(folder.run_store) or {})["host"] == winner
        fit_folder: FitFolder = folder.fit_folder("t00000")
        commits = list_commits(fit_folder.checkpoints)
        assert {commit.manifest.versions["host"] for commit in commits} >= {winner}
        for commit in commits:
            path = download_commit(commit, self.folder / f"{self.name}-{commit.name}")
            assert path.read_bytes() == commit.manifest.versions["host"].encode() * 1000
        ours = [commit for commit in commits if commit.manifest.versions["host"] == winner]
        assert len(ours) == STEPS and commits[-1] is ours[-1]


def run_races(storage: Store, folder: Path, count: int, at_once: int) -> None:
    """Run races, some at once: each waits most of its time for a lease to expire."""
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(lambda number: Race(storage, f"race-{number}", folder).run(), range(count)))
