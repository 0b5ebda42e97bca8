"""Every callback, logger and profiler of Lightning trains here as in plain Lightning: a fit on CPU, no Ray."""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import pytest
import torch
from lightning.pytorch import callbacks, loggers, plugins, profilers
from lightning.pytorch.cli import LightningCLI
from torch.utils.data import DataLoader, TensorDataset

from tests.two_ranks import fit_rank, on_two_ranks
from trainer_app.callbacks.epoch import Policy
from trainer_app.checkpoint import download_newest, list_commits
from trainer_app.checkpoint.loading import load_checkpoint
from trainer_app.config import RunConfig, loads
from trainer_app.config.models import Scaling
from trainer_app.errors import ConfigError
from trainer_app.records import FitFolder
from trainer_app.run.spec import RunSpec
from trainer_app.storage import open_store
from trainer_app.training import worker

pytestmark = [pytest.mark.unit, pytest.mark.filterwarnings("ignore")]

HERE = "tests.unit.test_lightning_parts"


class Net(L.LightningModule):
    """Has what the callbacks ask for: a backbone, a rate to find, a metric to watch."""

    def __init__(self, lr: float = 0.5) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.lr = lr
        self.backbone, self.head = torch.nn.Linear(4, 8), torch.nn.Linear(8, 2)

    def loss(self, batch: Any) -> torch.Tensor:
        x, y = batch
        return torch.nn.functional.cross_entropy(self.head(self.backbone(x).tanh()), y)

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        return self.loss(batch)

    def validation_step(self, batch: Any, index: int) -> None:
        self.log("val_loss", self.loss(batch))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=self.lr)


class Points(L.LightningDataModule):
    def __init__(self, batch_size: int = 8) -> None:
        super().__init__()
        self.batch_size = batch_size
        x = torch.randn(32, 4, generator=torch.Generator().manual_seed(1))
        self.points = TensorDataset(x, (x.sum(1) > 0).long())

    def train_dataloader(self) -> Any:
        return DataLoader(self.points, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self) -> Any:
        return DataLoader(self.points, batch_size=16)


class Pictures(Net):
    """Uses the logger itself, with no callback that needs one."""

    def on_validation_epoch_end(self) -> None:
        assert self.logger is not None
        self.logger.log_metrics({"pictures": 1.0})


class WithOwnCallbacks(Net):
    def configure_callbacks(self) -> Any:
        return own_callbacks()


def own_callbacks() -> list[Any]:
    return [callbacks.TQDMProgressBar(5), callbacks.LearningRateMonitor(), callbacks.ModelCheckpoint(filename="mine")]


class OwnTrainer(L.Trainer):
    def __init__(self, callbacks: list[callbacks.Callback] | None = None, **kwargs: Any) -> None:
        super().__init__(callbacks=[*(callbacks or []), *own_callbacks()], **kwargs)


class ClassArgsCLI(LightningCLI):
    def add_arguments_to_parser(self, parser: Any) -> None:
        for kind in (callbacks.TQDMProgressBar, callbacks.LearningRateMonitor, callbacks.ModelCheckpoint):
            parser.add_lightning_class_args(kind, kind.__name__.lower())
        parser.set_defaults({"modelcheckpoint.filename": "mine"})


def from_trainer_defaults() -> None:
    LightningCLI(Net, Points, trainer_defaults={"callbacks": own_callbacks()}, run=False)


def from_class_args() -> None:
    ClassArgsCLI(Net, Points)


def from_own_trainer() -> None:
    LightningCLI(Net, Points, trainer_class=OwnTrainer)


class AtEnd(callbacks.Callback):
    """Holds the weights that a user of plain Lightning has in hand after a fit."""

    weights: ClassVar[dict[str, Any]]
    trainer: ClassVar[L.Trainer]

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        AtEnd.weights = {name: value.clone() for name, value in pl_module.state_dict().items()}
        AtEnd.trainer = trainer


class SwapsAtFitEnd(callbacks.Callback):
    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        with torch.no_grad():
            for weight in pl_module.parameters():
                weight.fill_(0.25)


class FailsAtEnd(callbacks.Callback):
    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        raise ValueError("no disk for the plot")


@dataclass
class Fitted:
    fit_folder: FitFolder
    reports: list[dict[str, Any]] = field(default_factory=list)


def fit(tmp_path: Path, trainer: dict[str, Any], policy: Policy | None = None, **blocks: Any) -> Fitted:
    """Train for two epochs, or as `trainer` says, with AtEnd among the callbacks."""
    fitted = Fitted(FitFolder(open_store(str(tmp_path / "unit"))))
    if "cli" not in blocks:
        blocks = {"model": {"class_path": f"{HERE}.Net"}, "data": {"class_path": f"{HERE}.Points"}, **blocks}
    worker.fit(
        RunConfig(seed_everything=3, trainer={"max_epochs": 2, **trainer}, **blocks),
        fitted.fit_folder,
        policy=policy or Policy(),
        report=fitted.reports.append,
        trainer_kwargs=worker.one_device(RunSpec(run="r", uri=str(tmp_path), config="", use_gpu=False)),
        callbacks=[AtEnd()],
    )
    return fitted


def last_weights(fit_folder: FitFolder, tmp_path: Path) -> dict[str, Any]:
    newest = download_newest(fit_folder.checkpoints, tmp_path / "newest")
    assert newest is not None
    weights: dict[str, Any] = load_checkpoint(newest[1], ())["state_dict"]
    return weights


def count_tokens(batch: Any) -> int:
    return len(batch[0])


# Arguments, or why it can't train. "TMP" stands for a folder.
CALLBACKS: dict[str, dict[str, Any] | str] = {
    "BackboneFinetuning": {"unfreeze_backbone_at_epoch": 1},
    "BaseFinetuning": "a base class, whose methods a subclass writes",
    "BasePredictionWriter": {"write_interval": "batch"},
    "BatchSizeFinder": {"max_trials": 2, "init_val": 2},
    "Callback": {},
    "Checkpoint": {},
    "DeviceStatsMonitor": {},
    "EMAWeightAveraging": {},
    "EarlyStopping": {"monitor": "val_loss"},
    "GradientAccumulationScheduler": {"scheduling": {0: 1, 1: 2}},
    "LambdaCallback": {},
    "LearningRateFinder": {"num_training_steps": 8},
    "LearningRateMonitor": {},
    "ModelCheckpoint": {"dirpath": "TMP", "monitor": "val_loss"},
    "ModelPruning": {"pruning_fn": "l1_unstructured", "amount": 0.5},
    "ModelSummary": {},
    "OnExceptionCheckpoint": {"dirpath": "TMP"},
    "ProgressBar": {},
    "RichModelSummary": {},
    "RichProgressBar": {},
    "SpikeDetection": {"exclude_batches_path": "TMP/skip.json"},
    "StochasticWeightAveraging": {"swa_lrs": 0.1, "swa_epoch_start": 1},
    "TQDMProgressBar": {"refresh_rate": 5},
    "ThroughputMonitor": {"batch_size_fn": f"{HERE}.count_tokens"},
    "Timer": {"duration": {"hours": 1}, "interval": "step"},  # without interval LightningCLI itself refuses it
    "WeightAveraging": {},
}
LOGGERS: dict[str, dict[str, Any] | str] = {
    "CSVLogger": {"save_dir": "TMP"},
    "CometLogger": "needs the package comet_ml and an account there",
    "LitLogger": "needs the package litlogger and an account there",
    "Logger": "abstract",
    "MLFlowLogger": {"tracking_uri": "sqlite:///TMP/mlflow.db"},
    "TensorBoardLogger": {"save_dir": "TMP"},
    "WandbLogger": {"save_dir": "TMP", "offline": True},
}
PROFILERS: dict[str, dict[str, Any] | str] = {
    "AdvancedProfiler": {"dirpath": "TMP", "filename": "p"},
    "PassThroughProfiler": {},
    "Profiler": "abstract",
    "PyTorchProfiler": {"dirpath": "TMP", "filename": "p"},
    "SimpleProfiler": {"dirpath": "TMP", "filename": "p"},
    "XLAProfiler": "needs a TPU",
}
PLUGINS: dict[str, dict[str, Any] | str] = {
    "AsyncCheckpointIO": "refused by its key: a run would not know when it has written",
    "BitsandbytesPrecision": "needs the package bitsandbytes and a GPU",
    "CheckpointIO": "abstract",
    "DeepSpeedPrecision": "needs the package deepspeed",
    "DoublePrecision": {},
    "FSDPPrecision": "needs FSDPStrategy, which needs a GPU",
    "HalfPrecision": {"precision": "bf16-true"},
    "LayerSync": "abstract",
    "MixedPrecision": {"precision": "bf16-mixed", "device": "cpu"},
    "Precision": {},
    "TorchCheckpointIO": {},
    "TorchSyncBatchNorm": {},
    "TransformerEnginePrecision": "needs the package transformer_engine and a GPU",
    "XLACheckpointIO": "needs a TPU",
    "XLAPrecision": "needs a TPU",
}
TABLES = {"callbacks": CALLBACKS, "loggers": LOGGERS, "profilers": PROFILERS, "plugins": PLUGINS}
KEYS = {"callbacks": "callbacks", "loggers": "logger", "profilers": "profiler", "plugins": "plugins"}
LISTS = ("callbacks", "plugins")
TRAINED = [(t, name) for t, rows in TABLES.items() for name, row in rows.items() if isinstance(row, dict)]
REFUSED = [(t, name) for t, rows in TABLES.items() for name, row in rows.items() if isinstance(row, str)]


@pytest.mark.parametrize("module", [callbacks, loggers, profilers, plugins], ids=lambda m: m.__name__)
def test_every_class_has_a_row(module: Any) -> None:
    assert sorted(TABLES[module.__name__.rpartition(".")[2]]) == sorted(module.__all__)


def trainer_with(table: str, name: str, folder: Path) -> dict[str, Any]:
    """Return the Trainer's arguments with one part."""
    init = json.loads(json.dumps(TABLES[table][name]).replace("TMP", str(folder)))
    if "scheduling" in init:
        init["scheduling"] = {int(key): value for key, value in init["scheduling"].items()}  # JSON has no such keys
    part = {"class_path": f"lightning.pytorch.{table}.{name}", "init_args": init}
    return {KEYS[table]: [part] if table in LISTS else part, "log_every_n_steps": 2}


def check_fit(reports: list[dict[str, Any]], saved: dict[str, Any]) -> None:
    """Check that both epochs were reported, and that the last commit has the weights that the fit ended with."""
    assert [report["epochs"] for report in reports] == [1, 2]
    assert "val_loss" in reports[-1]["metrics"]
    assert saved.keys() == AtEnd.weights.keys()
    assert all(torch.equal(saved[key], AtEnd.weights[key]) for key in saved)


@pytest.mark.parametrize("table, name", TRAINED)
def test_trains_with(table: str, name: str, tmp_path: Path) -> None:
    fitted = fit(tmp_path, trainer_with(table, name, tmp_path))
    check_fit(fitted.reports, last_weights(fitted.fit_folder, tmp_path))


# Lightning itself refuses the first; it calls the second one's disable() on rank 1, which a subclass has to write
NOT_ON_RANKS = ("BatchSizeFinder", "ProgressBar")
ON_RANKS = [row for row in TRAINED if row[1] not in NOT_ON_RANKS]


def fit_all_on_rank(rows: list[tuple[str, str]], folder: Path) -> dict[str, str]:
    """Do one rank's part of a fit for each row, one after the other; return by row why it failed, "" if it did not."""
    return {name: fit_on_rank(trainer_with(table, name, folder / name), folder / name) for table, name in rows}


def fit_on_rank(trainer: dict[str, Any], folder: Path, epochs: int = 2) -> str:
    trainer = {**trainer, "callbacks": [*trainer.get("callbacks", []), {"class_path": f"{HERE}.AtEnd"}]}
    config = RunConfig(
        seed_everything=3,
        trainer={"max_epochs": epochs, "default_root_dir": str(folder), **trainer},
        model={"class_path": f"{HERE}.Net"},
        data={"class_path": f"{HERE}.Points"},
        scaling=Scaling(num_workers=2),
    )
    try:
        reports = fit_rank(config, str(folder))
        if torch.distributed.get_rank() == 0:  # whose weights count: DDP leaves out what BackboneFinetuning unfreezes
            fit_folder = RunSpec("r", str(folder), "", use_gpu=False).fit_folder()
            check_fit(reports, last_weights(fit_folder, folder / "newest"))
    except Exception as error:  # noqa: BLE001 - told to the test
        return f"{type(error).__name__}: {error}"
    return ""


@pytest.fixture(scope="module")
def on_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """Of each rank, by row, why it failed: one session for all rows."""
    ends = on_two_ranks(fit_all_on_rank, ON_RANKS, tmp_path_factory.mktemp("ranks"))
    assert [how for how, _ in ends] == ["returned", "returned"], ends
    return [problems for _, problems in ends]


@pytest.mark.full
@pytest.mark.parametrize("name", [name for _, name in ON_RANKS])
def test_trains_on_two_ranks_with(name: str, on_ranks: list[dict[str, str]]) -> None:
    assert [problems[name] for problems in on_ranks] == ["", ""]


@pytest.mark.parametrize("table, name", REFUSED)
def test_the_reason_is_true(table: str, name: str) -> None:
    reason, kind = str(TABLES[table][name]), getattr(importlib.import_module(f"lightning.pytorch.{table}"), name)
    if "refused" in reason:
        text = f"trainer: {{{KEYS[table]}: [{{class_path: lightning.pytorch.{table}.{name}}}]}}"
        with pytest.raises(ConfigError, match=rf"trainer\.{KEYS[table]}\.0: .*{name}"):
            loads(f"model: {{class_path: {HERE}.Net}}\n{text}\n")
    elif "package" in reason:
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module(reason.split("package ")[1].split()[0])
    elif "abstract" in reason:
        assert kind.__abstractmethods__


@pytest.mark.parametrize("origin", ["from_trainer_defaults", "from_class_args", "from_own_trainer"])
def test_parts_of_a_users_cli_get_what_they_need(origin: str, tmp_path: Path) -> None:
    fit(tmp_path, {}, cli=f"{HERE}:{origin}")
    check_own_callbacks()


def test_callbacks_of_the_module_get_what_they_need(tmp_path: Path) -> None:
    fit(tmp_path, {"default_root_dir": str(tmp_path / "root")}, model={"class_path": f"{HERE}.WithOwnCallbacks"})
    check_own_callbacks()
    (found,) = (tmp_path / "root").rglob("mine*.ckpt")
    assert found.parent.parent.name == "version_0"


def check_own_callbacks() -> None:
    kinds = sorted(type(callback).__name__ for callback in AtEnd.trainer.callbacks)
    assert kinds == ["AtEnd", "EpochReporter", "LearningRateMonitor", "ModelCheckpoint", "TQDMProgressBar"]
    assert AtEnd.trainer.checkpoint_callback.filename == "mine"


def test_a_silent_run_file_has_no_bar_summary_or_second_checkpoint(tmp_path: Path) -> None:
    fit(tmp_path, {})
    assert [type(callback).__name__ for callback in AtEnd.trainer.callbacks] == ["EpochReporter", "AtEnd"]
    root = tmp_path / "asked"
    fit(root, {"enable_progress_bar": True, "enable_model_summary": True, "default_root_dir": str(root)})
    kinds = [type(callback).__name__ for callback in AtEnd.trainer.callbacks]
    assert kinds == ["EpochReporter", "AtEnd", "RichProgressBar", "RichModelSummary"]


def test_a_module_that_uses_its_logger_has_one(tmp_path: Path) -> None:
    fit(tmp_path, {"default_root_dir": str(tmp_path / "root")}, model={"class_path": f"{HERE}.Pictures"})
    assert list((tmp_path / "root" / "lightning_logs" / "version_0").iterdir())


def test_the_last_commit_holds_the_weights_that_the_fit_ends_with(tmp_path: Path) -> None:
    """Also those of a callback's on_fit_end; the commit of the epoch before has those of training."""
    fitted = fit(tmp_path, {"callbacks": [{"class_path": f"{HERE}.SwapsAtFitEnd"}]})
    assert all((value == 0.25).all() for value in last_weights(fitted.fit_folder, tmp_path).values())
    first, _ = list_commits(fitted.fit_folder.checkpoints)
    weights = load_checkpoint(Path(first.uri, "checkpoint.ckpt"), ())["state_dict"]
    assert not any((value == 0.25).all() for value in weights.values())


AVERAGING = ["EMAWeightAveraging", "StochasticWeightAveraging", "WeightAveraging"]


@pytest.mark.parametrize("name", AVERAGING)
def test_the_last_commit_of_a_resumed_fit_holds_the_average(name: str, tmp_path: Path) -> None:
    """That of an undisturbed fit: what was averaged before the stop counts."""
    trainer = {**trainer_with("callbacks", name, tmp_path), "max_epochs": 4}
    undisturbed = last_weights(fit(tmp_path / "undisturbed", trainer).fit_folder, tmp_path / "undisturbed")
    asked = iter([False, False, True])
    stopped = fit(tmp_path / "resumed", trainer, Policy(stop=lambda: next(asked)))
    assert [report["epochs"] for report in stopped.reports] == [1, 2]
    resumed = fit(tmp_path / "resumed", trainer)
    assert [report["epochs"] for report in resumed.reports] == [3, 4]
    saved = last_weights(resumed.fit_folder, tmp_path / "resumed")
    assert all(torch.equal(saved[key], AtEnd.weights[key]) for key in saved)
    assert saved.keys() == undisturbed.keys()
    assert all(torch.allclose(saved[key], undisturbed[key], atol=1e-6) for key in saved)


def test_a_hook_that_fails_after_the_last_epoch_does_not_lose_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no disk for the plot"):
        fit(tmp_path, {"callbacks": [{"class_path": f"{HERE}.FailsAtEnd"}]})
    commits = list_commits(FitFolder(open_store(str(tmp_path / "unit"))).checkpoints)
    assert [commit.manifest.epochs for commit in commits] == [1, 2]
