"""Each argument of Lightning's Trainer: what becomes of it in a run, as docs/lightning.md says. No Ray."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import pytest
import torch
from lightning.pytorch.plugins import TorchCheckpointIO
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

from tests.two_ranks import fit_rank, on_two_ranks
from tests.unit.tree import ROOT
from trainer_app.callbacks.epoch import Policy
from trainer_app.checkpoint import list_commits
from trainer_app.config import RunConfig, loads, override
from trainer_app.errors import ConfigError
from trainer_app.records import FitFolder
from trainer_app.run.spec import RunSpec
from trainer_app.storage import open_store
from trainer_app.training import worker
from trainer_app.tuning.process_state import restored_process

pytestmark = [pytest.mark.unit, pytest.mark.filterwarnings("ignore")]

HERE = "tests.unit.test_trainer_arguments"
PAGE = ROOT / "docs/lightning.md"
ARGUMENTS = list(inspect.signature(L.Trainer.__init__).parameters)[1:]


@dataclass
class Seen:
    """What a fit did, as its module saw it."""

    train: list[tuple[int, list[float]]] = field(default_factory=list)  # epoch, first feature of each sample
    val: list[int] = field(default_factory=list)  # epoch of each batch
    sanity: int = 0
    gradients: list[float] = field(default_factory=list)  # the largest entry, after clipping
    norms: list[float] = field(default_factory=list)  # of all gradients, after clipping
    dtypes: set[torch.dtype] = field(default_factory=set)  # of weights, and of what a layer returns
    settings: dict[str, Any] = field(default_factory=dict)
    loaders: int = 0
    weights: dict[str, torch.Tensor] = field(default_factory=dict)
    trainer: Any = None
    reports: list[dict[str, Any]] = field(default_factory=list)

    def count_batches(self) -> list[int]:
        return [sum(at == epoch for at, _ in self.train) for epoch in sorted({at for at, _ in self.train})]

    def callbacks(self) -> set[str]:
        return {type(callback).__name__ for callback in self.trainer.callbacks}


class Net(L.LightningModule):
    seen: ClassVar[Seen]

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layer, self.head = torch.nn.Linear(4, width), torch.nn.Linear(width, 2)
        self.drop = torch.nn.Dropout(0.2)

    def loss(self, batch: Any) -> torch.Tensor:
        x, y = batch
        hidden = self.layer(x)
        Net.seen.dtypes |= {self.layer.weight.dtype, hidden.dtype}
        return torch.nn.functional.cross_entropy(self.head(self.drop(hidden.tanh())), y)

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        Net.seen.train.append((self.current_epoch, batch[0][:, 0].tolist()))
        loss = self.loss(batch)
        self.log("train/loss", loss)
        return loss

    def on_train_batch_end(self, *args: Any) -> None:
        gradients = [p.grad.float() for p in self.parameters() if p.grad is not None]
        Net.seen.gradients.append(max(float(g.abs().max()) for g in gradients))
        Net.seen.norms.append(float(torch.stack([g.norm() for g in gradients]).norm()))
        Net.seen.settings |= {
            "detect_anomaly": torch.is_anomaly_enabled(),
            "deterministic": torch.are_deterministic_algorithms_enabled(),
            "benchmark": torch.backends.cudnn.benchmark,
            "sampler": type(self.trainer.train_dataloader.sampler),
        }

    def validation_step(self, batch: Any, index: int) -> None:
        if self.trainer.sanity_checking:
            Net.seen.sanity += 1
        else:
            Net.seen.val.append(self.current_epoch)
        self.log("val/loss", self.loss(batch))

    def on_fit_end(self) -> None:
        Net.seen.weights = {name: value.clone() for name, value in self.state_dict().items()}
        Net.seen.trainer = self.trainer

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.05)
        return {"optimizer": optimizer, "lr_scheduler": torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)}


class Points(L.LightningDataModule):
    def __init__(self) -> None:
        super().__init__()
        x = torch.randn(48, 4, generator=torch.Generator().manual_seed(1))
        self.points = TensorDataset(x, (x.sum(1) > 0).long())

    def train_dataloader(self) -> Any:
        Net.seen.loaders += 1
        return DataLoader(self.points, batch_size=8, shuffle=True)

    def val_dataloader(self) -> Any:
        return DataLoader(self.points, batch_size=16)


class Hyperparameters(L.pytorch.loggers.logger.DummyLogger):
    """Notes what a Trainer logs by itself."""

    hparams: ClassVar[list[Any]] = []
    steps: ClassVar[list[int]] = []

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        Hyperparameters.hparams.append(args)

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if "train/loss" in metrics:
            Hyperparameters.steps.append(step or 0)


EARLY = {"class_path": "EarlyStopping", "init_args": {"monitor": "val/loss", "patience": 1, "mode": "max"}}
PRECISIONS = ("16-mixed", "bf16-mixed", "bf16-true", "16-true", "32-true", "64-true")
PLUGIN = {"class_path": "TorchCheckpointIO"}
LOGGER = {"class_path": f"{HERE}.Hyperparameters"}
# The Trainer's arguments by name of the fit; without max_epochs it has three, of 6 batches and 3 of validation.
FITS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "cut": {
        "limit_train_batches": 4,
        "limit_val_batches": 2,
        "val_check_interval": 2,
        "accumulate_grad_batches": 2,
        "num_sanity_val_steps": 1,
        "inference_mode": False,
        "reload_dataloaders_every_n_epochs": 2,
        "limit_test_batches": 1,
        "limit_predict_batches": 1,
    },
    "strict": {"detect_anomaly": True, "deterministic": True, "gradient_clip_val": 0.01},
    "warns": {"deterministic": "warn", "benchmark": True, "check_val_every_n_epoch": 2, "num_sanity_val_steps": -1},
    "by value": {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"},
    "by share": {"limit_train_batches": 0.5, "limit_val_batches": 0.5, "val_check_interval": 0.34},
    "over epochs": {"val_check_interval": 8, "check_val_every_n_epoch": None},
    "by time": {"val_check_interval": "00:00:05:00", "max_time": {"minutes": 5}},
    "fast_dev_run": {"fast_dev_run": True},
    "fast_dev_run 2": {"fast_dev_run": 2},
    "overfit": {"overfit_batches": 2},
    "overfit a half": {"overfit_batches": 0.5},
    "no validation": {"limit_val_batches": 0, "max_steps": 8},
    "max_steps alone": {"max_steps": 8, "max_epochs": None},
    "not before": {
        "min_epochs": 2,
        "min_steps": 14,
        "callbacks": [EARLY],
    },
    "logs": {"logger": LOGGER, "log_every_n_steps": 2, "default_root_dir": "root"},
    "logs less": {
        "logger": [LOGGER],
        "enable_autolog_hparams": False,
        "log_every_n_steps": 0,
        "model_registry": "me/it",
    },
    "screens": {
        "enable_checkpointing": True,
        "enable_progress_bar": True,
        "enable_model_summary": True,
        "logger": False,
    },
    "barebones": {"barebones": True},
    "sampler": {"use_distributed_sampler": False, "sync_batchnorm": True, "plugins": [PLUGIN]},
    **{f"profiler {name}": {"profiler": name} for name in ("simple", "advanced")},
    **{f"precision {name}": {"precision": name} for name in PRECISIONS},
}
PARTS = ("not before", "logs", "logs less", "sampler")  # objects, which a plain Trainer takes from no YAML


def config_of(name: str) -> RunConfig:
    config = loads(f"seed_everything: 3\nmodel: {{class_path: {HERE}.Net}}\ndata: {{class_path: {HERE}.Points}}\n")
    return override(config, {"trainer": {"max_epochs": 3, **FITS[name]}})


def fit(name: str, folder: Path, policy: Policy | None = None) -> Seen:
    """Fit as a worker does."""
    Net.seen, Hyperparameters.hparams, Hyperparameters.steps = Seen(), [], []
    with restored_process():
        worker.fit(
            config_of(name),
            FitFolder(open_store(str(folder))),
            policy=policy or Policy(),
            report=Net.seen.reports.append,
            trainer_kwargs=worker.one_device(RunSpec(run="r", uri=str(folder), config="", use_gpu=False)),
        )
    return Net.seen


def fit_plainly(name: str) -> Seen:
    """Fit as a script does that knows of no run."""
    Net.seen = Seen()
    silent = {f"enable_{part}": False for part in ("checkpointing", "progress_bar", "model_summary")}
    with restored_process():
        L.seed_everything(3, workers=True)
        L.Trainer(**{"max_epochs": 3, "accelerator": "cpu", "devices": 1, **silent, **FITS[name]}).fit(Net(), Points())
    return Net.seen


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


_done: dict[str, Seen] = {}


@pytest.fixture
def undisturbed(tmp_path: Path) -> Callable[[str], Seen]:
    """Return what a fit did, which is done once for all rows that it shows."""

    def find(name: str) -> Seen:
        if name not in _done:
            folder = tmp_path / name.replace(" ", "-")
            _done[name] = fit(name, folder)
            _done[name].settings |= {"hparams": len(Hyperparameters.hparams), "steps": [*Hyperparameters.steps]}
            _done[name].settings["commits"] = len(list_commits(open_store(str(folder / "checkpoints"))))
        return _done[name]

    return find


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k].nan_to_num(9), other[k].nan_to_num(9)) for k in one)


@pytest.mark.parametrize("name", [name for name in FITS if name not in PARTS])
def test_it_trains_as_plain_lightning_does(name: str, undisturbed: Callable[[str], Seen]) -> None:
    ours, plain = undisturbed(name), fit_plainly(name)
    assert (ours.train, ours.val, ours.sanity, ours.dtypes) == (plain.train, plain.val, plain.sanity, plain.dtypes)
    assert same(ours.weights, plain.weights)


@pytest.mark.parametrize("name", [name for name in FITS if not name.startswith("fast_dev_run")])
def test_stopped_and_resumed_it_is_as_undisturbed(
    name: str, tmp_path: Path, undisturbed: Callable[[str], Seen]
) -> None:
    whole, asked = undisturbed(name), iter([False, True])
    first = fit(name, tmp_path / "resumed", Policy(stop=lambda: next(asked)))
    second = fit(name, tmp_path / "resumed")
    assert len(first.reports) == 1 and len(first.reports + second.reports) == len(whole.reports)
    assert first.train + second.train == whole.train
    metrics = [r["metrics"] for r in first.reports + second.reports]
    assert str(metrics) == str([r["metrics"] for r in whole.reports])  # 16-true has NaN, which equals nothing
    assert same(second.weights, whole.weights)


FLOAT, HALF, BRAIN, DOUBLE = torch.float32, torch.float16, torch.bfloat16, torch.float64
Check = tuple[str, Callable[[Seen], Any]]


@dataclass
class Row:
    """What becomes of an argument.

    `shown` are fits with what they show; `refused` are values in YAML that end with an error at the key; `mapped` are
    values with what a run file has after it was read.
    """

    kind: str
    shown: list[Check] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    mapped: dict[str, Callable[[RunConfig], Any]] = field(default_factory=dict)


def dtypes(*types: torch.dtype) -> Callable[[Seen], bool]:
    return lambda seen: seen.dtypes == set(types)


def setting(name: str, value: Any) -> Callable[[Seen], bool]:
    return lambda seen: seen.settings[name] == value


def has_callbacks(seen: Seen) -> bool:
    return seen.callbacks() >= {"RichProgressBar", "RichModelSummary", "ModelCheckpoint"}


def ends_after(epochs: int) -> Callable[[Seen], bool]:
    return lambda seen: [report["epochs"] for report in seen.reports] == [*range(1, epochs + 1)]


DDP = "ray.train.lightning.RayDDPStrategy"
ROWS: dict[str, Row] = {
    "accelerator": Row("mapped", mapped={"cpu": lambda c: c.scaling.use_gpu is False}, refused=["tpu", "mps"]),
    "strategy": Row("mapped", mapped={"ddp": lambda c: c.trainer["strategy"]["class_path"] == DDP}, refused=["xla"]),
    "devices": Row("mapped", mapped={"2": lambda c: c.scaling.num_workers == 2}, refused=["[0, 0]"]),
    "num_nodes": Row("mapped", mapped={"1": lambda c: "num_nodes" not in c.trainer}, refused=["0"]),
    "precision": Row("passed on", [
        ("precision 16-mixed", dtypes(FLOAT, BRAIN)),  # on a CPU, as Lightning says in a warning
        ("precision bf16-mixed", dtypes(FLOAT, BRAIN)),
        ("precision bf16-true", dtypes(BRAIN)),
        ("precision 16-true", dtypes(HALF)),
        ("precision 32-true", dtypes(FLOAT)),
        ("precision 64-true", dtypes(DOUBLE)),
    ]),
    "logger": Row("passed on", [("logs", lambda s: s.settings["steps"])]),
    "callbacks": Row("passed on", [("not before", lambda s: len(s.trainer.early_stopping_callbacks) == 1)]),
    "fast_dev_run": Row("passed on", [
        ("fast_dev_run", lambda s: s.count_batches() == [1] and s.val == [0] and s.settings["commits"] == 1),
        ("fast_dev_run 2", lambda s: s.count_batches() == [2] and s.val == [0, 0] and ends_after(1)(s)),
    ]),
    "max_epochs": Row("passed on", [("as it is", ends_after(3))], refused=["0", "-2"]),
    "min_epochs": Row("passed on", [("not before", ends_after(3))]),
    "max_steps": Row("passed on", [
        ("no validation", lambda s: s.reports[-1]["steps"] == 8),
        ("max_steps alone", lambda s: [r["steps"] for r in s.reports] == [6, 8]),
    ]),
    "min_steps": Row("passed on", [("not before", lambda s: s.reports[-1]["steps"] >= 14)]),
    "max_time": Row("passed on", [("by time", lambda s: "Timer" in s.callbacks())]),
    "limit_train_batches": Row("passed on", [
        ("cut", lambda s: s.count_batches() == [4] * 3), ("by share", lambda s: s.count_batches() == [3] * 3)
    ]),
    "limit_val_batches": Row("passed on", [
        ("cut", lambda s: s.val.count(0) == 2 * 2), ("by share", lambda s: s.val.count(0) == 3),
        ("no validation", lambda s: s.val == []),
    ]),
    "limit_test_batches": Row("passed on", [("cut", lambda s: s.trainer.limit_test_batches == 1)]),
    "limit_predict_batches": Row("passed on", [("cut", lambda s: s.trainer.limit_predict_batches == 1)]),
    "overfit_batches": Row("passed on", [
        ("overfit", lambda s: s.count_batches() == [2] * 3 and len({str(sorted(b)) for _, b in s.train}) == 2),
        ("overfit a half", lambda s: s.count_batches() == [3] * 3),
    ]),
    "val_check_interval": Row("passed on", [
        ("cut", lambda s: s.val == [0] * 4 + [1] * 4 + [2] * 4),
        ("by share", lambda s: s.val == [0] * 3 + [1] * 3 + [2] * 3),
        ("over epochs", lambda s: s.val == [1] * 3 + [2] * 3),
        ("by time", lambda s: s.val == []),
    ]),
    "check_val_every_n_epoch": Row("passed on", [("warns", lambda s: s.val == [1] * 3)]),
    "num_sanity_val_steps": Row("passed on", [("cut", lambda s: s.sanity == 1), ("warns", lambda s: s.sanity == 3)]),
    "log_every_n_steps": Row("passed on", [
        ("logs", setting("steps", [1, 3, 5, 7, 9, 11, 13, 15, 17])), ("logs less", setting("steps", []))
    ]),
    "enable_checkpointing": Row("passed on", [("screens", has_callbacks)]),
    "enable_progress_bar": Row("passed on", [("screens", has_callbacks)]),
    "enable_model_summary": Row("passed on", [("screens", has_callbacks)]),
    "accumulate_grad_batches": Row("passed on", [("cut", lambda s: [r["steps"] for r in s.reports] == [2, 4, 6])]),
    "gradient_clip_val": Row("passed on", [("strict", lambda s: max(s.norms) < 0.0101)]),
    "gradient_clip_algorithm": Row("passed on", [
        ("by value", lambda s: max(s.gradients) < 0.0101 and max(s.norms) > 0.0101)
    ]),
    "deterministic": Row("passed on", [
        ("strict", setting("deterministic", True)), ("warns", setting("deterministic", True))
    ]),
    "benchmark": Row("passed on", [("warns", setting("benchmark", True)), ("as it is", setting("benchmark", False))]),
    "inference_mode": Row("passed on", [
        ("as it is", lambda s: s.trainer.test_loop.inference_mode),  # in a fit Lightning has no_grad instead
        ("cut", lambda s: not s.trainer.test_loop.inference_mode),
    ]),
    "use_distributed_sampler": Row("passed on", [
        ("sampler", lambda s: s.settings["sampler"] is not DistributedSampler)
    ]),
    "profiler": Row("passed on", [
        ("profiler simple", lambda s: type(s.trainer.profiler).__name__ == "SimpleProfiler"),
        ("profiler advanced", lambda s: type(s.trainer.profiler).__name__ == "AdvancedProfiler"),
    ]),
    "detect_anomaly": Row("passed on", [("strict", setting("detect_anomaly", True))]),
    "barebones": Row("passed on", [("barebones", lambda s: s.reports[-1]["metrics"] == {})]),
    "plugins": Row("passed on", [("sampler", lambda s: type(s.trainer.strategy.checkpoint_io) is TorchCheckpointIO)],
                   refused=["[{class_path: AsyncCheckpointIO}]", "[{class_path: SLURMEnvironment}, 3]"]),
    "sync_batchnorm": Row("passed on", [("sampler", ends_after(3))]),
    "reload_dataloaders_every_n_epochs": Row("passed on", [("cut", lambda s: s.loaders == 2)]),
    "default_root_dir": Row("passed on", [("logs", lambda s: s.trainer.default_root_dir.endswith("root"))]),
    "enable_autolog_hparams": Row("passed on", [("logs", setting("hparams", 1)), ("logs less", setting("hparams", 0))]),
    "model_registry": Row("passed on", [("logs less", lambda s: s.trainer._model_registry == "me/it")]),
}  # fmt: skip


def documented() -> Iterator[tuple[str, str]]:
    """Yield argument and kind of each row of the page."""
    section = PAGE.read_text(encoding="utf-8").partition("## The Trainer's arguments")[2].partition("\n## ")[0]
    for names, kind in re.findall(r"^\| (`[^|]*) \| (passed on|mapped|refused)\b", section, re.MULTILINE):
        yield from ((name, kind) for name in re.findall(r"`(\w+)`", names))


def test_each_argument_has_a_row_here_and_in_the_documentation() -> None:
    assert sorted(ROWS) == sorted(ARGUMENTS)
    assert sorted(documented()) == sorted((name, row.kind) for name, row in ROWS.items())
    assert all(row.shown or row.mapped or row.refused for row in ROWS.values())
    set_by_a_fit = {key for arguments in FITS.values() for key in arguments} | {"max_epochs"}
    assert {name for name, row in ROWS.items() if row.kind == "passed on"} - set_by_a_fit == set()


@pytest.mark.parametrize("name", ARGUMENTS)
def test_argument(name: str, undisturbed: Callable[[str], Seen]) -> None:
    row, model = ROWS[name], f"model: {{class_path: {HERE}.Net}}\n"
    for of_fit, check in row.shown:
        assert check(undisturbed(of_fit)), of_fit
    for value, check_config in row.mapped.items():
        assert check_config(loads(f"{model}trainer: {{{name}: {value}}}\n")), value
    for value in row.refused:
        with pytest.raises(ConfigError, match=rf"trainer\.{name}\b"):
            loads(f"{model}trainer: {{{name}: {value}}}\n")


def fit_all_on_rank(names: list[str], folder: Path) -> dict[str, str]:
    """Do one rank's part of each fit; return by name why it failed, "" if it did not."""
    problems = {}
    for name in names:
        Net.seen, config = Seen(), override(config_of(name), {"scaling.num_workers": 2})
        try:
            with restored_process():
                reports = fit_rank(config, str(folder / name.replace(" ", "-")))
            problems[name] = "" if reports else "reported nothing"
        except Exception as error:  # noqa: BLE001 - told to the test
            problems[name] = f"{type(error).__name__}: {error}"
    return problems


@pytest.mark.full
def test_each_fit_on_two_ranks(tmp_path: Path) -> None:
    ends = on_two_ranks(fit_all_on_rank, list(FITS), tmp_path)
    assert [how for how, _ in ends] == ["returned", "returned"], ends
    assert [{name: why for name, why in problems.items() if why} for _, problems in ends] == [{}, {}]
