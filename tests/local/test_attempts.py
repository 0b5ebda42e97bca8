"""A stop that is asked for through storage, on a real Ray: what is committed, and that the run goes on from there."""

from __future__ import annotations

import hashlib
import io
import sys
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import ray

from tests.local.runs import Ran, run_file
from trainer_app.config import RunConfig
from trainer_app.errors import DeadlineError, LeaseHeldError
from trainer_app.records import RunFolder
from trainer_app.run import documents, lease_file, stop, user_code
from trainer_app.storage import Store, open_store
from trainer_app.tuning.recorder import SweepRecorder

pytestmark = [pytest.mark.local, pytest.mark.usefixtures("ray_session")]

SPACE = {"model.init_args.lr": {"grid_search": [0.05, 0.1, 0.2, 0.3]}}
HYPERBAND = {"max_t": 4, "reduction_factor": 2}


class Stopped(Ran):
    """An attempt that is asked to stop when its first epoch is reported, and waits for that before its second ends.

    Args:
        due: whether to ask, if not by the first epoch.
    """

    def __init__(self, task: str, config: Any, name: str, *, due: Callable[[], object] | None = None) -> None:
        self.folder = open_store(config.storage.uri).child(name)
        self.due = due or self._reported
        self.asked = Path(config.model["init_args"]["hold"])
        with ThreadPoolExecutor(1) as pool:
            asking = pool.submit(self._ask)
            super().__init__(task, config, name)
            asking.result()

    def _ask(self) -> None:
        deadline = time.monotonic() + 120
        while not self.due():
            assert time.monotonic() < deadline, "no time to ask for the stop came in 120 s"
            time.sleep(0.02)
        documents.write(self.folder, stop.REQUEST, {"id": "stop-1", "asked": time.time(), "by": "test"})
        self.asked.touch()

    def _reported(self) -> bool:
        return any("metrics/" in entry.key for entry in self.folder.list())

    @property
    def answer(self) -> dict[str, Any]:
        return documents.read(self.folder, stop.ANSWER) or {}


def toy(folder: Path) -> dict[str, Any]:
    return {"class_path": "tests.local.toy.Toy", "init_args": {"hold": str(folder / "asked")}}


@pytest.fixture
def submitted_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A class path in a module that is nowhere but in the storage of run `hit`; installed as the driver does."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("only_submitted.py", "from tests.local.toy import Toy\n\nclass Mine(Toy):\n    pass\n")
    digest = hashlib.sha256(archive.getvalue()).hexdigest()
    store = open_store(str(tmp_path)).child("hit")
    store.put(f"code/{digest}.zip", archive.getvalue())
    monkeypatch.setenv(user_code.CODE, digest)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", "")
    user_code.install(store, digest)
    return "only_submitted.Mine"


def test_a_train_run_stops_at_a_commit_and_goes_on_exactly(tmp_path: Path, submitted_code: str) -> None:
    """Two workers, with the user's code."""
    config = run_file(
        tmp_path,
        model={**toy(tmp_path), "class_path": submitted_code},
        scaling={"num_workers": 2, "use_gpu": False},
        trainer={"max_epochs": 5},
        checkpoint={"every_n_epochs": 3},
    )
    hit = Stopped("train", config, "hit")
    record = hit.results.record
    assert (hit.code, record.state, record.final, record.error) == (130, "interrupted", False, None)
    done = len(hit.history())
    assert 1 <= done < 5
    newest = hit.results.fits[0].checkpoints[-1]
    assert hit.answer["id"] == "stop-1"
    assert (hit.answer["epochs"], hit.answer["step"], hit.answer["commit"]) == (done, newest.step, newest.name)
    found = documents.read(hit.folder, lease_file.KEY)
    assert found is not None and found["expires"] == 0 and found["spent"] > 0
    refused_beside_another_driver(config, hit.folder)
    more = Ran("train", config, "hit", resume=True)
    assert (more.code, more.results.record.state) == (0, "succeeded")
    assert [e["epoch"] for e in more.of("epoch")] == list(range(done, 5))
    assert stop.read_request(hit.folder) is None  # a person went on with it
    assert [(one.state, one.reason) for one in more.results.record.past] == [("interrupted", "test asked it to stop")]


def refused_beside_another_driver(config: RunConfig, folder: Store) -> None:
    mine = documents.read(folder, lease_file.KEY) or {}
    documents.write(
        folder, lease_file.KEY, {**mine, "holder": "head-2:7", "host": "head-2", "expires": time.time() + 30}
    )
    before = {entry.key: folder.get(entry.key) for entry in folder.list("")}
    with pytest.raises(LeaseHeldError, match=r"run hit is held by the driver head-2:7, until .* UTC"):
        Ran("train", config, "hit", resume=True)
    assert {entry.key: folder.get(entry.key) for entry in folder.list("")} == before
    documents.write(folder, lease_file.KEY, mine)


def test_a_sweep_stops_and_no_trial_is_lost(tmp_path: Path) -> None:
    """Two of four trials have not begun by then."""
    tune = {"metric": "val_acc", "mode": "max", "num_samples": 1, "space": SPACE, "max_concurrent_trials": 2}
    config = run_file(tmp_path, tune=tune, trainer={"max_epochs": 4}, model=toy(tmp_path))
    hit = Stopped("tune", config, "hit")
    check_cut(hit)
    more = Ran("tune", config, "hit", resume=True)
    assert (more.code, more.results.record.state) == (0, "succeeded")
    assert [t.epochs for t in more.results.trials] == [4, 4, 4, 4]
    trained = [(e["trial"], e["epoch"]) for e in hit.of("epoch") + more.of("epoch")]
    assert len(trained) == len(set(trained)) == 16  # no epoch twice


@pytest.mark.full
def test_a_sweep_with_paused_trials_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HyperBand's second bracket, trials 3 to 5: 3 waits at 2 epochs for 4, held in its first, and 5, without a place.

    The first bracket, trials 0 to 2, has the three other places, each held in another epoch.
    """
    paused: set[str] = set()
    step_end = SweepRecorder.on_step_end

    def noted(self: SweepRecorder, iteration: int, trials: list[Any], **info: Any) -> None:
        paused.update(trial.trial_id for trial in trials if trial.status == "PAUSED")
        step_end(self, iteration, trials, **info)

    monkeypatch.setattr(SweepRecorder, "on_step_end", noted)
    space = {"model.init_args.hold_from": {"grid_search": [1, 2, 3, 4, 0, 5]}}
    tune = {"metric": "val_acc", "mode": "max", "num_samples": 1, "space": space, "scheduler": {"hyperband": HYPERBAND}}
    config = run_file(tmp_path, tune=tune, trainer={"max_epochs": 4}, model=toy(tmp_path))
    hit = Stopped("tune", config, "hit", due=lambda: paused)
    assert "t00003" in check_cut(hit)


def check_cut(hit: Stopped) -> set[str]:
    """What was running has stopped at a commit, and the answer names it: these trials."""
    assert (hit.code, hit.results.record.state) == (130, "interrupted")
    cut = {t.trial: t for t in hit.results.trials if t.record and t.record.reason == "stop was asked for"}
    assert cut and all(t.record and t.record.state == "stopped" for t in cut.values())
    assert hit.answer["trials"].keys() == cut.keys()
    assert all(hit.answer["trials"][name]["epochs"] == trial.epochs for name, trial in cut.items())
    assert hit.answer["step"] == max(t["step"] for t in hit.answer["trials"].values()) > 0
    return {name for name in cut if name}


@pytest.mark.full
def test_a_trial_of_several_workers_stops_at_a_commit(tmp_path: Path) -> None:
    tune = {
        "metric": "val_acc",
        "mode": "max",
        "num_samples": 1,
        "space": {"model.init_args.lr": {"grid_search": [0.1]}},
    }
    scaling = {"num_workers": 2, "use_gpu": False}
    config = run_file(tmp_path, tune=tune, scaling=scaling, trainer={"max_epochs": 6}, model=toy(tmp_path))
    hit = Stopped("tune", config, "hit")
    assert (hit.code, hit.results.record.state) == (130, "interrupted")
    (trial,) = hit.results.trials
    assert trial.record is not None and (trial.record.state, trial.record.reason) == ("stopped", "stop was asked for")
    assert 1 <= trial.epochs < 6 and hit.answer["trials"]["t00000"]["epochs"] == trial.epochs
    assert trial.checkpoints[-1].epochs == trial.epochs


def test_workers_that_find_no_place_end_the_run_in_the_seconds_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The chart promises 9 CPUs; their pods are never scheduled."""
    monkeypatch.setenv("TRAINER_CLUSTER_RESOURCES", '{"CPU": 9}')
    monkeypatch.setenv("TRAINER_FIRST_STEP_DEADLINE_S", "2")
    began = time.monotonic()
    with pytest.raises(DeadlineError, match="the workers need 9 CPU at once and this Ray has 4 now"):
        Ran("train", run_file(tmp_path, scaling={"num_workers": 9, "use_gpu": False}), "late")
    assert 2 <= time.monotonic() - began < 30
    record = RunFolder.open(open_store(str(tmp_path)), "late").record
    assert (record.state, record.final, record.exit_code) == ("failed", True, 1)
    deadline = time.monotonic() + 20
    while controllers():
        assert time.monotonic() < deadline, "a controller is left, which asks for the places for ever"
        time.sleep(0.1)


def controllers() -> list[str]:
    """The ids of Ray Train's controllers that live."""
    found = ray._private.state.actors().values()
    return [a["ActorID"] for a in found if "TrainController" in a["ActorClassName"] and a["State"] != "DEAD"]
