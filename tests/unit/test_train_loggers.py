"""Loggers of a run file: one run of theirs for each fit, grouped under the sweep, the same one for every attempt."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from tests.two_ranks import fit_rank, on_two_ranks
from trainer_app.callbacks.epoch import Policy
from trainer_app.config import RunConfig
from trainer_app.config.models import Scaling
from trainer_app.records import FitFolder
from trainer_app.run.spec import RunSpec
from trainer_app.storage import open_store
from trainer_app.training import loggers, worker

pytestmark = [pytest.mark.unit, pytest.mark.filterwarnings("ignore")]
PARTS = "tests.unit.test_lightning_parts"
LOGGERS = "lightning.pytorch.loggers"


def all_four(folder: Path) -> list[dict[str, Any]]:
    return [
        {"class_path": f"{LOGGERS}.WandbLogger", "init_args": {"project": "p", "offline": True}},
        {"class_path": "MLFlowLogger", "init_args": {"tracking_uri": f"sqlite:///{folder}/mlflow.db"}},
        {"class_path": "TensorBoardLogger", "init_args": {"save_dir": "boards"}},
        {"class_path": "CSVLogger", "init_args": {"save_dir": "logs"}},
    ]


def run_file(logger: Any, epochs: int = 2, workers: int = 1) -> RunConfig:
    return RunConfig(
        seed_everything=3,
        trainer={"max_epochs": epochs, "logger": logger, "log_every_n_steps": 1},
        model={"class_path": f"{PARTS}.Net"},
        data={"class_path": f"{PARTS}.Points"},
        scaling=Scaling(num_workers=workers),
    )


def fit(config: RunConfig, storage: Path, trial: str | None, policy: Policy | None = None, stop: Any = None) -> None:
    """Do what a worker or a trial does of a fit, without Ray."""
    spec = RunSpec(run="sweep", uri=str(storage), config="", use_gpu=False)
    fit_folder = spec.fit_folder(trial)
    report = stop or (lambda result: None)
    kwargs = worker.one_device(spec)
    named = ("sweep", trial)
    worker.fit(config, fit_folder, policy=policy or Policy(), report=report, trainer_kwargs=kwargs, logged_as=named)


def runs_of(folder: Path) -> dict[str, Any]:
    """MLflow's runs by name."""
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    return {run.info.run_name: run for run in client.search_runs(["1"])}


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two trials one after the other in this process; the first one ends after an epoch, and has another attempt."""
    folder = tmp_path_factory.mktemp("swept")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        asked = iter([False, True])
        fit(run_file(all_four(folder), 3), folder / "runs", "t00000", Policy(stop=lambda: next(asked)))
        fit(run_file(all_four(folder)), folder / "runs", "t00001")
        fit(run_file(all_four(folder), 3), folder / "runs", "t00000")
    return folder


def ids(folder: Path, trial: str) -> dict[str, Any]:
    return dict(json.loads((folder / f"runs/sweep/trials/{trial}/{loggers.RECORD}").read_text()))


def test_wandb_has_a_run_for_each_trial_and_resumes_it(swept: Path) -> None:
    made = sorted(path.name.rpartition("-")[2] for path in (swept / "wandb").glob("offline-run-*"))
    first, second = ids(swept, "t00000")["0.WandbLogger"], ids(swept, "t00001")["0.WandbLogger"]
    assert made == sorted([first, first, second]) and first != second


def test_wandb_groups_trials_under_the_sweep(swept: Path) -> None:
    files = sorted((swept / "wandb").glob("offline-run-*/*.wandb"))
    assert len(files) == 3
    for file in files:
        written = file.read_bytes()
        assert b"sweep" in written and (b"sweep/t00000" in written or b"sweep/t00001" in written)


def test_mlflow_has_a_run_for_each_trial_and_resumes_it(swept: Path) -> None:
    runs = runs_of(swept)
    assert sorted(runs) == ["sweep/t00000", "sweep/t00001"]
    for name, run in runs.items():
        trial = name.partition("/")[2]
        assert run.info.run_id == ids(swept, trial)["1.MLFlowLogger"] and run.info.status == "FINISHED"
        assert (run.data.tags["trainer.run"], run.data.tags["trainer.trial"]) == ("sweep", trial)
    client = MlflowClient(f"sqlite:///{swept}/mlflow.db")
    history = client.get_metric_history(runs["sweep/t00000"].info.run_id, "val_loss")
    assert len({point.step for point in history}) == 3  # of both attempts


def test_tensorboard_continues_its_version(swept: Path) -> None:
    folders = sorted(path.name for path in (swept / "boards/lightning_logs").iterdir())
    assert folders == ["version_0", "version_1"]
    assert len(list((swept / "boards/lightning_logs/version_0").glob("events.*"))) == 2


def test_csv_has_a_version_for_each_attempt(swept: Path) -> None:
    """A second CSVLogger deletes what it finds in its version."""
    files = sorted((swept / "logs/lightning_logs").glob("version_*/metrics.csv"))
    epochs = [{row["epoch"] for row in csv.DictReader(file.open()) if row["val_loss"]} for file in files]
    assert epochs == [{"0"}, {"0", "1"}, {"1", "2"}]


@pytest.mark.parametrize(
    "args, folder", [({"version": "v"}, "lightning_logs/v"), ({"version": 3, "name": ""}, "version_3")]
)
def test_csv_under_a_version_of_the_users_keeps_each_attempt(tmp_path: Path, args: Any, folder: str) -> None:
    entry = {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": f"{tmp_path}/out", **args}}
    file = tmp_path / "out" / folder / "metrics.csv"
    file.parent.mkdir(parents=True)
    for attempt in range(3):
        file.write_text(str(attempt))
        named([entry], None, {} if attempt else None, str(tmp_path / "s"))
        assert file.exists() == (attempt == 0)  # a new run leaves it to CSVLogger
    assert {path.name: path.read_text() for path in file.parent.iterdir()} == {
        "metrics-1.csv": "1",
        "metrics-2.csv": "2",
    }


def test_a_trial_that_is_stopped_has_not_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def end(result: dict[str, Any]) -> None:
        raise SystemExit(0)  # as Tune does

    with pytest.raises(SystemExit):
        fit(run_file(all_four(tmp_path)[:2]), tmp_path / "runs", "t00000", stop=end)
    import wandb

    assert runs_of(tmp_path)["sweep/t00000"].info.status == "FINISHED" and wandb.run is None


def test_a_fit_that_raises_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def fail(result: dict[str, Any]) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fit(run_file({"class_path": "MLFlowLogger"}), tmp_path / "runs", None, stop=fail)
    (run,) = MlflowClient("file:./mlruns").search_runs([*({p.name for p in Path("mlruns").glob("[1-9]*")})])
    assert (run.info.run_name, run.info.status) == ("sweep", "FAILED")


def named(entry: Any, trial: str | None = "t1", record: dict[str, Any] | None = None, folder: str = "x") -> Any:
    store = open_store(folder)
    if record is not None:
        store.put(loggers.RECORD, json.dumps(record).encode())
    return loggers.name_runs(run_file(entry), FitFolder(store), ("s", trial))[0].trainer["logger"]


def test_what_the_run_file_says_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:./mlruns")
    args = {"name": "mine", "version": "v1", "group": "g"}
    assert named({"class_path": "WandbLogger", "init_args": args}, folder=str(tmp_path))["init_args"] == args
    tags = {"class_path": "MLFlowLogger", "init_args": {"run_name": "mine", "tags": {"trainer.run": "x", "a": "b"}}}
    written = named(tags, folder=str(tmp_path))["init_args"]
    assert written.pop("tracking_uri") == f"file:{Path.cwd()}/mlruns"
    assert written == {"run_name": "mine", "tags": {"trainer.run": "x", "trainer.trial": "t1", "a": "b"}}
    for other in (True, False, None, {"class_path": "my.WandbLogger"}, "CSVLogger"):
        assert named(other, folder=str(tmp_path)) == other
    assert named("WandbLogger", None, folder=str(tmp_path))["init_args"] == {"name": "s"}
    free = {"class_path": "WandbLogger", "dict_kwargs": {"group": "g"}}
    assert named(free, folder=str(tmp_path)) == {**free, "init_args": {"name": "s/t1"}}


@pytest.mark.parametrize(
    "uri, becomes",
    [
        ("file:./m", "file:HERE/m"),
        ("sqlite:///m.db", "sqlite:///HERE/m.db"),
        ("./m", "file:HERE/m"),
        ("file:///m", None),
        ("sqlite:////m.db", None),
        ("http://mlflow:5000", None),
        ("databricks", None),
    ],
)
def test_a_relative_path_is_that_of_this_fits_folder(tmp_path: Path, uri: str, becomes: str | None) -> None:
    """MLflow keeps a store by its URI for the process: the next trial's would be in a folder that is gone."""
    entry = {"class_path": "MLFlowLogger", "init_args": {"tracking_uri": uri}}
    written = named(entry, folder=str(tmp_path))["init_args"]["tracking_uri"]
    assert written == (becomes or uri).replace("HERE", str(Path.cwd()))


@pytest.mark.parametrize("version", ["../../x", "/etc", "", True, None, ["a"], "a" * 200])
def test_an_id_of_the_storage_is_no_path(tmp_path: Path, version: Any) -> None:
    entry = {"class_path": "TensorBoardLogger", "init_args": {"save_dir": "b"}}
    assert named(entry, record={"0.TensorBoardLogger": version}, folder=str(tmp_path)) == entry
    assert named(entry, record={"0.TensorBoardLogger": 3}, folder=str(tmp_path))["init_args"]["version"] == 3


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    entries = all_four(folder)
    entries[0]["init_args"]["save_dir"] = str(folder)
    for entry in entries[2:]:
        entry["init_args"]["save_dir"] = f"{folder}/{entry['class_path']}"
    ends = on_two_ranks(fit_rank, run_file(entries, workers=2), str(folder / "runs"), limit_s=200)
    assert [how for how, _ in ends] == ["returned", "returned"], ends
    return folder


def test_rank_0_alone_logs(ranks: Path) -> None:
    (run,) = runs_of(ranks).values()
    assert run.info.run_name == "r" and run.info.status == "FINISHED"
    assert len(list(ranks.glob("wandb/offline-run-*"))) == 1
    assert [p.name for p in (ranks / "TensorBoardLogger/lightning_logs").iterdir()] == ["version_0"]
    assert len(list((ranks / "TensorBoardLogger").rglob("events.*"))) == 1
    assert len(list((ranks / "CSVLogger").rglob("metrics.csv"))) == 1
