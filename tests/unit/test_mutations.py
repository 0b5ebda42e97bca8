"""Whatever an object of a run becomes: verbs read on or name what is broken, and resume goes on or says why not."""

from __future__ import annotations

import random
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from tests.mutations import Mutator
from tests.run_samples import train_run, tune_run
from trainer_app import results
from trainer_app.__main__ import main
from trainer_app.cli import session
from trainer_app.config import RunConfig, dump, loads, override, require_tune
from trainer_app.errors import TrainerError
from trainer_app.launch import stored_logs
from trainer_app.launch.location import RunLocation
from trainer_app.launch.remote_run import Launch, RemoteRun, format_position
from trainer_app.records import RunFolder, TrialRecord, trial_name
from trainer_app.run import attempt, decision, documents, lease, lease_file, prepare, stop
from trainer_app.run.spec import RunSpec
from trainer_app.storage import open_retrying, open_store
from trainer_app.training import worker
from trainer_app.tuning import schedulers
from trainer_app.tuning.plan import plan_search
from trainer_app.tuning.space import draws

pytestmark = [pytest.mark.unit, pytest.mark.filterwarnings("ignore")]

LIMIT_S = 30
READERS = frozenset({"results", "list", "fetch", "clean"})
ALL = READERS | {"test", "train", "tune"}
RUN_FILE = """\
name: mine
seed_everything: 1
model: {class_path: tests.unit.test_mutations.Linear, init_args: {lr: 0.1}}
trainer: {max_epochs: 3}
scaling: {use_gpu: false}
checkpoint: {keep: 2}
failure: {storage_timeout_s: 1}
tune: {metric: loss, mode: min, num_samples: 3, space: {model.init_args.lr: {uniform: [0.01, 0.1]}}}
"""


class Linear(L.LightningModule):
    """Two batches an epoch."""

    def __init__(self, lr: float = 0.1) -> None:
        super().__init__()
        self.lr, self.net = lr, torch.nn.Linear(2, 1)

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        loss = self.net(batch[0]).pow(2).mean()
        self.log("loss", loss, on_step=False, on_epoch=True)
        return loss

    def test_step(self, batch: Any, index: int) -> None:
        self.log("test_loss", self.net(batch[0]).pow(2).mean())

    def train_dataloader(self) -> Any:
        return DataLoader(TensorDataset(torch.ones(4, 2)), batch_size=2)

    test_dataloader = train_dataloader

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.lr)


def fit(config: RunConfig, spec: RunSpec, trial: str | None = None, *, epochs: int = 3) -> list[int]:
    """Train in this process, as a worker does, to `epochs`; return the epochs that were trained, as counts."""
    reports: list[int] = []
    worker.fit(
        override(config, {"trainer.max_epochs": epochs}),
        spec.fit_folder(trial),
        policy=worker.policy(config, spec, task="tune" if trial else "train"),
        report=lambda report: reports.append(report["epochs"]),
        trainer_kwargs={**worker.one_device(spec), "logger": False},
    )
    return reports


def make_run(uri: str, task: str) -> None:
    """Two of three epochs, or a sweep of a finished trial and one that was killed; submitted, and stopped once."""
    storage, config = open_store(uri), override(loads(RUN_FILE), {"storage.uri": uri})
    folder = prepare.create_run(storage, config, {"seed_everything": 1}, name=task, task=task)
    spec = prepare.run_spec(folder, storage, config)
    if task == "train":
        fit(config, spec, epochs=2)
    else:
        fit_trials(config, folder, spec)
    write_others(folder, config)


def fit_trials(config: RunConfig, folder: RunFolder, spec: RunSpec) -> None:
    for index, params in zip((0, 1), draws(require_tune(config).space, num_samples=3, seed=1), strict=False):
        name = trial_name(index)
        trained = fit(override(config, params), spec, name, epochs=3 - index)
        record = TrialRecord(trial=name, index=index, params=params, epochs=trained[-1], attempts=1, best=1.0)
        folder.write_trial(record.model_copy(update={"state": "running" if index else "finished"}))


def write_others(folder: RunFolder, config: RunConfig) -> None:
    """Write what a submitted run has besides, which was asked to stop and did, and has released its lease."""
    store, task = folder.run_store, folder.record.task
    folder.write_config(dump(config))
    remote = RemoteRun(store, folder.name)
    remote.record_resubmission(Launch(folder.name, task, "ns", "s-1", "chart", "1", env=("A",)))
    remote.write_run_file(RUN_FILE)
    remote.write_values({"image": {"tag": "1"}, "pools": {"cpu": {}}})
    remote.put_code("0" * 64, b"PK")
    for key in ("logs/driver/a0001.000.log", "logs/worker-x/1.000.log", "artifacts/a.csv", "artifacts/not-sent.txt"):
        store.put(key, b"line 1\nline 2\n")
    documents.write(store, lease_file.KEY, {**lease.Lease(store, None)._document(0.0), "spent": 5.0})
    remote.request_stop("stop-1", "me")
    stop.write_answer(store, {"epochs": 1, "step": 2, "commit": None})


TRAINED: list[tuple[str, list[int]]] = []


def drive(task: str, config: RunConfig, *, name: str, resume: bool, emit: Any, log: Any, test: bool = False) -> int:
    """Do what the drivers do, with Ray left out: one fit or, of a sweep, the next trial's, in this process."""
    storage = open_retrying(config.storage.uri, config.failure.storage_timeout_s)
    folder, config = attempt.open_run(storage, config, name=name, resume=resume, task=task, check=lambda _: None)
    emit(results.start_event(folder, config, log=log, resumed=resume))
    with attempt.recording(folder, storage, emit):
        spec = prepare.run_spec(folder, storage, config)
        config = spec.load()
        if task == "train":
            TRAINED.append(("", fit(config, spec)))
        else:
            records = {record.trial: record for record in folder.read_trials()}
            planned = plan_search(config, folder, records, schedulers.build(config, epochs=3), concurrency=1)
            index, params = next(iter(planned.unfinished), (planned.start, {}))
            TRAINED.append((trial_name(index), fit(override(config, params), spec, trial_name(index))))
        folder.update(state="succeeded")
    return 0


class TooSlowError(BaseException):
    """A verb that took longer than LIMIT_S: nothing of the product's catches it."""


@contextmanager
def limited() -> Iterator[None]:
    def end(*_: object) -> None:
        raise TooSlowError

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def verbs(task: str, storage: str, out: Path) -> dict[str, list[str]]:
    run = f"{storage}/{task}"
    return {
        "results": ["results", run],
        "results --json": ["results", run, "--json"],
        "results --trial": ["results", run, "--trial", "t00001"],
        "list": ["list", storage],
        "list --json": ["list", storage, "--json"],
        "newest": ["results", "--storage", storage],
        "fetch": ["fetch", run, "-o", str(out)],
        "clean": ["clean", storage, "--yes"],
        "test": ["test", run, "--log", str(out.parent / "log")],
        "resume": [task, "--resume", run, "--log", str(out.parent / "log")],
    }


def skip(line: str) -> None:
    """Take a line of a log."""


def launcher(storage: str, task: str) -> dict[str, Callable[[], Any]]:
    """What the verbs for Kubernetes read."""
    remote, where = RemoteRun.open(storage, task), RunLocation(task, storage, "", "", "")
    return {
        "record": lambda: str(remote.read_record()),
        "launch": remote.read_launch,
        "stopped": lambda: format_position(remote.read_stop()),
        "attempts": remote.count_attempts,
        "logs": lambda: stored_logs.show_logs(where, workers=False, out=skip),
        "worker logs": lambda: stored_logs.show_logs(where, workers=True, out=skip),
        "decide": lambda: decision.decide(open_store(storage), task, "s-1"),
    }


def damaged(runs: Path, tmp_path: Path, seed: int) -> tuple[str, str]:
    """Damage an object of a copy of the runs; return (task, what was done)."""
    task = ("train", "tune")[seed % 2]
    for folder in (tmp_path / "work", tmp_path / "outside"):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(runs, tmp_path / "work" / "runs")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    mutator = Mutator(tmp_path / "work" / "runs" / task, random.Random(seed), tmp_path / "outside")
    return task, f"{seed}, {mutator.damage(seed // 2)}"


def check(runs: Path, tmp_path: Path, seed: int, capfd: Any, which: frozenset[str] = ALL) -> list[str]:
    """Damage an object, run these verbs and what the launcher reads; return what was wrong."""
    task, mutation = damaged(runs, tmp_path, seed)
    storage, out = str(tmp_path / "work" / "runs"), tmp_path / "work" / "out"
    calls: dict[str, Callable[[], Any]] = {
        name: partial(main, words) for name, words in verbs(task, storage, out).items() if words[0] in which
    }
    bad: list[str] = []
    for verb, call in [*calls.items(), *launcher(storage, task).items()]:
        capfd.readouterr()
        TRAINED.clear()
        found, code = ended(call, verb in calls, capfd)
        lease._held.clear()
        if verb == "resume" and code == 0:
            found = found or resumed_badly(mutation)
        bad += [f"{mutation}: {verb}: {found}"] if found else []
    if (tmp_path / "outside" / "secret").read_text() != "secret":
        bad.append(f"{mutation}: what is out of the storage was changed")
    return bad


def resumed_badly(mutation: str) -> str:
    """Return what is wrong with what a resume trained: no object alone is all that a fit resumes from."""
    if not TRAINED:
        return "nothing was trained"
    all_gone = ("a link above", "swapped")  # a trial's whole folder, or both commits
    began_anew = TRAINED[0][1][:1] == [1] and not mutation.endswith(all_gone)
    return f"{TRAINED}: no commit was used" if began_anew else ""


def ended(call: Callable[[], Any], is_verb: bool, capfd: Any) -> tuple[str, Any]:
    """Return (what is wrong with how a call ended, or "", its exit code)."""
    try:
        with limited():
            code = call()
    except TrainerError as error:
        return f"{type(error).__name__}: {error}" if is_verb or not str(error) else "", None
    except BaseException as error:  # noqa: BLE001 - anything is a finding
        return f"{type(error).__name__}: {str(error)[:200]}", None
    err = capfd.readouterr().err
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    if not is_verb or (code in (0, 1, 2) and "Traceback" not in err and "internal error" not in err):
        copied = "warning: not copied" in err
        fine = not is_verb or code == 0 or copied or errors
        return "" if fine else f"exit code {code} and no error", code
    return f"exit code {code}: {err[-1500:]}", code


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lease, "POLL_S", 0.01)
    monkeypatch.setattr(session, "load_driver", lambda: drive)
    monkeypatch.setattr(session, "end_at_sigterm", lambda: None)


def test_readers(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    storage = open_store(str(tmp_path / "runs"))
    for made in (train_run(storage, "train"), tune_run(storage, "tune")):
        write_others(made, loads(RUN_FILE))
    found = [line for seed in range(12) for line in check(tmp_path / "runs", tmp_path, seed, capfd, READERS)]
    assert not found, "\n".join(found)


@pytest.mark.full
def test_all_verbs(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for task in ("train", "tune"):
        make_run(str(tmp_path / "runs"), task)
    found = [line for seed in range(300) for line in check(tmp_path / "runs", tmp_path, seed, capfd)]
    assert not found, "\n".join(found)
