"""A storage that fails at any one of the requests of a run: nobody's failure, and no epoch is lost or trained twice.

The drivers' and workers' own code, in this process, without Ray and Tune.
"""

from __future__ import annotations

from contextlib import nullcontext, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.faulty_store import SILENT, Faults, FaultyStore
from tests.unit.test_mutations import RUN_FILE, fit
from trainer_app.checkpoint import list_commits
from trainer_app.config import RunConfig, loads, override
from trainer_app.errors import AccessDeniedError, NotFoundError, StorageUnavailableError, TrainerError
from trainer_app.records import RunFolder, trial_name
from trainer_app.run import attempt, cluster, lease, lease_file
from trainer_app.run.spec import RunSpec
from trainer_app.run.watch import Watch
from trainer_app.storage import open_store, retrying
from trainer_app.tuning import schedulers, sweep
from trainer_app.tuning.plan import plan_search
from trainer_app.tuning.recorder import SweepRecorder

pytestmark = [pytest.mark.unit, pytest.mark.filterwarnings("ignore")]
TASKS = ("train", "tune")
EPOCHS, TRIALS = 2, 2
WRITES = ("put", "put_file", "delete", "delete_prefix")
DENIED = AccessDeniedError("the storage refuses it")


class AtCall(Faults):
    """Fail at the request of this number, counted from 0; `lasting`: and at all later ones."""

    def __init__(self, number: int, error: Exception, *, lasting: bool = False, lost: bool = False) -> None:
        super().__init__(always=error, lost=lost)
        self.count, self.over = 0, False

        def matches(method: str, key: str) -> bool:
            if lost and method not in WRITES:
                return False
            self.count += 1
            return not self.over and (self.count - 1 == number or (lasting and self.count > number))

        self.matches = matches


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cluster, "connected", nullcontext)
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    for name, seconds in (("FIRST_WAIT_S", 0.01), ("LONGEST_WAIT_S", 0.02), ("SAY_AFTER_S", 0.0)):
        monkeypatch.setattr(retrying, name, seconds)
    monkeypatch.setattr(lease, "POLL_S", 0.02)
    monkeypatch.setattr(lease_file, "STALE_S", 0.2)  # for so long somebody who meant to take the lease counts


class Run:
    """A run whose storage has faults; each `drive` is an attempt in a process of its own, as far as the run knows."""

    def __init__(self, task: str, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.task, self.uri, self.faults = task, uri, Faults()
        self.config = override(
            loads(RUN_FILE), {"storage.uri": uri, "failure.storage_timeout_s": 0.1, "tune.num_samples": TRIALS}
        )
        self.trained: list[tuple[str, int]] = []
        monkeypatch.setattr(retrying, "open_store", lambda _: FaultyStore(open_store(uri), self.faults))

    def drive(self, faults: Faults, *, resume: bool) -> int:
        self.faults = faults
        retrying._accesses.clear()
        lease._held.clear()
        events: list[Any] = []
        work = attempt.Work(
            self.task, lambda config: None, lambda config: "", getattr(self, f"run_{self.task}"), lambda *_, **__: {}
        )
        return attempt.run_attempt(self.config, work, name="r", resume=resume, emit=events.append, log=None, test=False)

    def run_train(self, config: RunConfig, folder: RunFolder, spec: RunSpec, watch: Watch) -> None:
        self.trained += [("", epochs) for epochs in fit(config, spec, epochs=EPOCHS)]
        folder.update(state="succeeded")

    def run_tune(self, config: RunConfig, folder: RunFolder, spec: RunSpec, watch: Watch) -> None:
        """Do what Tune does: one trial after the other, each with its reports and its end."""
        records = {record.trial: record for record in folder.read_trials()}
        scheduler = schedulers.build(config, epochs=EPOCHS)
        planned = plan_search(config, folder, records, scheduler, concurrency=1, stopping=watch.stopping)
        recorder = SweepRecorder(
            folder, watch.emit, mode="min", scheduler=scheduler, records=records, stopping=watch.stopping
        )
        left = [*planned.unfinished, *enumerate(planned.draws, planned.start)]
        for index, params in left:
            if watch.stopping.is_set():
                break
            self.run_trial(recorder, override(config, params), spec, trial_name(index), params)
        recorder.flush()
        sweep.record_outcome(folder, records)

    def run_trial(self, recorder: SweepRecorder, config: RunConfig, spec: RunSpec, name: str, params: Any) -> None:
        trial: Any = SimpleNamespace(trial_id=name, config=params, get_error=lambda: "", pickled_error_file=None)
        recorder.on_trial_start(0, [], trial)
        try:
            self.trained += [(name, epochs) for epochs in fit(config, spec, name, epochs=EPOCHS)]
        except StorageUnavailableError as error:
            recorder.on_trial_result(0, [], trial, {"unavailable": str(error)})
        except TrainerError as error:
            recorder.on_trial_result(0, [], trial, {"error": str(error), "epochs": 0})
        recorder.on_trial_complete(0, [], trial)

    def check_whole(self) -> None:
        """Every epoch is there once, with a checkpoint after the last, and nothing has failed."""
        folder = RunFolder.open(open_store(self.uri), "r")
        assert (folder.record.state, folder.record.error, folder.problem) == ("succeeded", None, "")
        trials = [trial_name(index) for index in range(TRIALS)] if self.task == "tune" else [None]
        for trial in trials:
            fit_folder = folder.fit_folder(trial)
            assert [line["epoch"] for line in fit_folder.read_metrics()] == list(range(EPOCHS))
            assert list_commits(fit_folder.checkpoints)[-1].manifest.epochs == EPOCHS
        states = [record.state for record in folder.read_trials()]
        assert states == ["finished"] * (TRIALS if self.task == "tune" else 0)


@pytest.fixture(params=TASKS)
def runs(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`runs(n)`: the run number n, in a storage of its own."""
    return lambda number: Run(request.param, str(tmp_path / f"runs-{number}"), monkeypatch)


def count_calls(runs: Any, **options: Any) -> int:
    run, faults = runs("whole"), AtCall(10**9, SILENT, **options)
    assert run.drive(faults, resume=False) == 0
    run.check_whole()
    return faults.count


# At each request of so many; a run takes a second.
STEPS = [37, pytest.param(2, marks=pytest.mark.full)]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("lost", [False, True])
def test_a_request_that_fails_once_is_tried_again(runs: Any, step: int, lost: bool) -> None:
    for number in range(step // 4, count_calls(runs, lost=lost), step):
        run, faults = runs(number), AtCall(number, SILENT, lost=lost)
        with suppress(StorageUnavailableError):  # at the very first one: a wrong address is not waited for
            assert run.drive(faults, resume=False) == 0
            run.check_whole()
            continue
        assert number <= 1, number


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("error", [SILENT, DENIED], ids=["silent", "denied"])
def test_a_run_that_a_storage_has_ended_is_resumed(runs: Any, step: int, error: Exception) -> None:
    for number in range(step // 2, count_calls(runs), step):
        run, faults = runs(number), AtCall(number, error, lasting=True)
        with suppress(TrainerError):
            run.drive(faults, resume=False)
        faults.over = True
        try:
            assert run.drive(Faults(), resume=True) == 0
        except NotFoundError:  # it was not created
            assert run.drive(Faults(), resume=False) == 0
        run.check_whole()
        assert len(run.trained) == len(set(run.trained)), (number, run.trained)
