"""A stop that is asked for through storage, on a real Ray: what is committed, and that the run goes on from there."""

from __future__ import annotations

import hashlib
import io
import sys
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.local.runs import Ran, run_file
from trainer_app.attempt import code, documents, lease, stop
from trainer_app.config import override
from trainer_app.records import RunFolder
from trainer_app.storage import open_store

pytestmark = [pytest.mark.local, pytest.mark.usefixtures("ray_session")]

SPACE = {"model.init_args.lr": {"grid": [0.05, 0.1, 0.2]}}


class Stopped(Ran):
    """An attempt that is asked to stop when its first epoch is reported."""

    def __init__(self, task: str, config: Any, name: str) -> None:
        self.folder = open_store(config.storage.uri).child(name)
        asking = threading.Thread(target=self._ask)
        asking.start()
        super().__init__(task, config, name)
        asking.join()

    def _ask(self) -> None:
        deadline = time.monotonic() + 120
        while not any("metrics/" in entry.key for entry in self.folder.list()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        documents.write(self.folder, stop.ASKED, {"id": "stop-1", "asked": time.time(), "by": "test"})

    @property
    def answer(self) -> dict[str, Any]:
        return documents.read(self.folder, stop.ANSWERED) or {}


def test_a_train_run_stops_at_a_commit_and_goes_on_exactly(tmp_path: Path) -> None:
    slow = {"model.init_args.sleep": 1.1, "trainer.max_epochs": 5, "checkpoint.every_n_epochs": 3}
    two = {"num_workers": 2, "use_gpu": False}
    hit = Stopped("train", run_file(tmp_path, scaling=two, changes=slow), "hit")
    record = hit.results.record
    assert (hit.code, record.state, record.final, record.error) == (130, "interrupted", False, None)
    done = len(hit.history())
    assert 1 <= done < 5
    newest = hit.results.units[0].checkpoints[-1]
    assert hit.answer["id"] == "stop-1"
    assert (hit.answer["epoch"], hit.answer["step"], hit.answer["commit"]) == (done, newest.step, newest.name)
    found = documents.read(hit.folder, lease.KEY)
    assert found is not None and found["expires"] == 0 and found["spent"] > 0
    more = Ran("train", run_file(tmp_path, scaling=two, changes=slow), "hit", resume=True)
    assert (more.code, more.results.record.state) == (0, "succeeded")
    assert [e["epoch"] for e in more.of("epoch")] == list(range(done, 5))
    assert stop.asked(hit.folder) is None  # a person went on with it


@pytest.mark.parametrize("scheduler", ["fifo", "hyperband"])
def test_a_sweep_stops_and_no_trial_is_lost(tmp_path: Path, scheduler: str) -> None:
    tune = {
        "metric": "val_acc",
        "mode": "max",
        "space": SPACE,
        "scheduler": {scheduler: {"max_t": 4, "reduction_factor": 2} if scheduler == "hyperband" else {}},
    }
    config = override(run_file(tmp_path, tune=tune), {"model.init_args.sleep": 1.1, "trainer.max_epochs": 4})
    config = override(config, {"tune.max_concurrent_trials": 2} if scheduler == "fifo" else {})
    hit = Stopped("tune", config, "hit")
    assert (hit.code, hit.results.record.state) == (130, "interrupted")
    open_ = {t.trial: t for t in hit.results.trials if t.record and t.record.state != "finished"}
    assert open_ and {t.record.reason for t in open_.values() if t.record} <= {"stop was asked for"}
    assert hit.answer["trials"].keys() == open_.keys()
    assert hit.answer["step"] == max(t["step"] for t in hit.answer["trials"].values()) > 0
    more = Ran("tune", config, "hit", resume=True)
    assert (more.code, more.results.record.state) == (0, "succeeded")
    assert len(more.results.trials) == 3
    again = [(e["trial"], e["epoch"]) for e in hit.of("epoch") + more.of("epoch")]
    assert len(again) == len(set(again))  # no epoch was trained twice


def test_a_trial_of_several_workers_stops_at_a_commit(tmp_path: Path) -> None:
    tune = {"metric": "val_acc", "mode": "max", "space": {"model.init_args.lr": {"grid": [0.1]}}}
    config = run_file(tmp_path, tune=tune, scaling={"num_workers": 2, "use_gpu": False})
    config = override(config, {"model.init_args.sleep": 1.1, "trainer.max_epochs": 6})
    hit = Stopped("tune", config, "hit")
    assert (hit.code, hit.results.record.state) == (130, "interrupted")
    (trial,) = hit.results.trials
    assert trial.record is not None and (trial.record.state, trial.record.reason) == ("stopped", "stop was asked for")
    assert 1 <= trial.epochs < 6 and hit.answer["trials"]["t00000"]["epoch"] == trial.epochs
    assert trial.checkpoints[-1].epochs == trial.epochs


def test_workers_import_the_users_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that is nowhere but in the run's storage."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("only_submitted.py", "from tests.local.toy import Toy\n\nclass Mine(Toy):\n    pass\n")
    digest = hashlib.sha256(archive.getvalue()).hexdigest()
    store = open_store(str(tmp_path / "runs")).child("mine")
    store.put(f"code/{digest}.zip", archive.getvalue())
    monkeypatch.setenv(code.CODE, digest)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", "")
    code.install(store, digest)  # the driver's part
    config = run_file(tmp_path / "runs", model={"class_path": "only_submitted.Mine", "init_args": {}})
    ran = Ran("train", override(config, {"trainer.max_epochs": 1}), "mine")
    assert ran.code == 0 and len(ran.history()) == 1


def test_a_run_that_is_driven_elsewhere_is_not_touched(tmp_path: Path) -> None:
    folder = RunFolder.open(open_store(Ran("train", run_file(tmp_path), "one").uri), "one")
    other = {"holder": "head-2:7", "host": "head-2", "pid": 7, "expires": time.time() + 30}
    documents.write(folder.store, lease.KEY, other)
    before = {entry.key: folder.store.get(entry.key) for entry in folder.store.list("")}
    more = override(run_file(tmp_path), {"trainer.max_epochs": 4})
    with pytest.raises(lease.Held, match=r"run one is held by the driver head-2:7, until .* UTC"):
        Ran("train", more, "one", resume=True)
    assert {entry.key: folder.store.get(entry.key) for entry in folder.store.list("")} == before
