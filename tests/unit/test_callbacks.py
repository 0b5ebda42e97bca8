"""The callbacks that any run file can name: a few fits on CPU show each, on one rank and on two."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import lightning as L
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.strategies import FSDPStrategy, SingleDeviceStrategy
from torch.utils.data import DataLoader, TensorDataset

from tests.two_ranks import fit_rank, on_two_ranks
from trainer_app import callbacks
from trainer_app.callbacks import gradient_norm
from trainer_app.callbacks.epoch import Policy
from trainer_app.config import RunConfig, override
from trainer_app.config.models import Scaling
from trainer_app.errors import InputError
from trainer_app.records import FitFolder
from trainer_app.run.spec import RunSpec
from trainer_app.storage import open_store
from trainer_app.training import worker

pytestmark = [pytest.mark.unit, pytest.mark.filterwarnings("ignore")]

HERE = "tests.unit.test_callbacks"
SAMPLES = 64


class Net(L.LightningModule):
    """Notes which samples each batch had: an input is its own number."""

    seen: ClassVar[list[tuple[int, list[int]]]] = []
    norms: ClassVar[list[dict[str, float]]] = []

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        Net.seen.append((self.current_epoch, [int(x) for x in batch[0].flatten()]))
        loss = (self.layer(batch[0] / SAMPLES) - 1).pow(2).mean()
        self.log("loss", loss)
        return loss

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        Net.norms.append({name: float(p.grad.norm(2)) for name, p in self.named_parameters() if p.grad is not None})

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Numbers(L.LightningDataModule):
    def __init__(self, batch_size: int = 4) -> None:
        super().__init__()
        self.save_hyperparameters()

    def train_dataloader(self) -> Any:
        numbers = TensorDataset(torch.arange(float(SAMPLES)).unsqueeze(1))
        return DataLoader(numbers, batch_size=self.hparams["batch_size"], shuffle=True)


class Fixed(Numbers):
    def train_dataloader(self) -> Any:
        return DataLoader(TensorDataset(torch.arange(float(SAMPLES)).unsqueeze(1)), batch_size=4)


class Values(L.pytorch.loggers.logger.DummyLogger):
    """Keeps what a logger gets."""

    lines: ClassVar[list[tuple[int, dict[str, float]]]] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        Values.lines.append((step or 0, dict(metrics)))


def run_file(names: dict[str, dict[str, Any]], *, data: str = "Numbers", workers: int = 1, **trainer: Any) -> RunConfig:
    parts = [{"class_path": f"trainer_app.callbacks.{name}", "init_args": args} for name, args in names.items()]
    return RunConfig(
        seed_everything=3,
        model={"class_path": f"{HERE}.Net"},
        data={"class_path": f"{HERE}.{data}"},
        trainer={"callbacks": parts, "logger": {"class_path": f"{HERE}.Values"}, **trainer},
        scaling=Scaling(num_workers=workers),
    )


def fit(tmp_path: Path, config: RunConfig, policy: Policy | None = None) -> list[dict[str, Any]]:
    """Train as one worker does; return what each epoch reported."""
    reports: list[dict[str, Any]] = []
    Net.seen, Net.norms, Values.lines = [], [], []
    worker.fit(
        config,
        FitFolder(open_store(str(tmp_path))),
        policy=policy or Policy(),
        report=reports.append,
        trainer_kwargs=worker.one_device(RunSpec(run="r", uri=str(tmp_path), config="", use_gpu=False)),
    )
    return reports


def test_the_package_imports_no_torch() -> None:
    code = "import sys, trainer_app.callbacks as c; assert 'torch' not in sys.modules; print(len(c.__all__))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.stdout == f"{len(callbacks.__all__)}\n", run.stderr
    assert all(getattr(callbacks, name).__name__ == name for name in callbacks.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        callbacks.Nothing  # noqa: B018


def test_gradient_norms_of_accumulated_steps(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """16 batches in steps of 2: every third of 8 steps is measured, as the module itself sees the gradients."""
    names = {"GradientNorm": {"every_n_steps": 3, "threshold": 0.5}}
    (report,) = fit(tmp_path, run_file(names, max_epochs=1, accumulate_grad_batches=2))
    lines = [(step, line) for step, line in Values.lines if "gradients/layer.weight_norm" in line]
    assert [step for step, _ in lines] == [0, 3, 6]
    weights = [Net.norms[step]["layer.weight"] for step, _ in lines]
    assert [line["gradients/layer.weight_norm"] for _, line in lines] == pytest.approx(weights)
    assert report["metrics"]["gradients/layer.weight_norm"] == pytest.approx(max(weights))
    large = [line for line in capfd.readouterr().err.splitlines() if "large gradient" in line]
    assert "WARNING: large gradient at step 0 (above 0.5): " in large[0]
    assert f"layer.bias {Net.norms[0]['layer.bias']:.2f}" in large[0]
    assert len(large) == sum(max(Net.norms[step].values()) > 0.5 for step in (0, 3, 6))


class Fused(torch.optim.SGD):
    """Divides scaled gradients in its own step, as torch's fused optimizers do on a GPU."""

    _step_supports_amp_scaling = True

    def step(self, closure: Any = None) -> None:
        if closure is not None:  # without a scaler
            closure()


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, Fused])
def test_gradient_norms_are_unscaled(optimizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Net, "configure_optimizers", lambda self: optimizer(self.parameters(), lr=0.0))
    scaled = MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu", init_scale=1024.0))
    measured: list[float] = []
    for plugins in ([], [scaled]):
        Values.lines = []
        L.seed_everything(3)
        trainer = L.Trainer(
            accelerator="cpu", max_steps=1, plugins=plugins, logger=Values(), callbacks=[callbacks.GradientNorm(1)],
            enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
        )  # fmt: skip
        trainer.fit(Net(), Numbers())
        measured.append(Values.lines[0][1]["gradients/layer.weight_norm"])
    assert measured[0] == pytest.approx(measured[1], rel=0.01)


@pytest.mark.parametrize(
    "kind, group, whole",
    [("FULL_SHARD", 2, (5.0, 1.0)), ("NO_SHARD", 2, (3.0, 3.0)), ("HYBRID_SHARD", 1, (3.0, 3.0))],
)
def test_gradient_norms_of_fsdp_are_those_of_all_shards(
    kind: str, group: int, whole: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    strategy: Any = FSDPStrategy(sharding_strategy=kind, auto_wrap_policy={torch.nn.Linear})
    strategy.model = SimpleNamespace(process_group=SimpleNamespace(size=lambda: group))
    ranks = [{"a": 3.0}, {"a": 4.0, "b": 1.0}] if kind == "FULL_SHARD" else [{"a": 3.0, "b": 3.0}] * 2
    monkeypatch.setattr(gradient_norm, "gather", lambda norms: ranks)
    assert gradient_norm._sum_shards(strategy, ranks[0]) == pytest.approx({"a": whole[0], "b": whole[1]})


def batches_by_epoch() -> dict[int, list[int]]:
    """Return the sizes of each epoch's batches."""
    epochs = sorted({epoch for epoch, _ in Net.seen})
    return {epoch: [len(batch) for at, batch in Net.seen if at == epoch] for epoch in epochs}


GROWING = {"DynamicBatchSize": {"initial": 8, "max_size": 20, "increase_every": 2}}


def test_the_batch_size_grows_in_the_epoch_it_is_due_and_resumes(tmp_path: Path) -> None:
    config = run_file(GROWING, max_epochs=6)
    reports = fit(tmp_path / "undisturbed", config)
    undisturbed = list(Net.seen)
    assert batches_by_epoch() == {
        **{epoch: [8] * 8 for epoch in (0, 1)},
        **{epoch: [16] * 4 for epoch in (2, 3)},
        **{epoch: [20, 20, 20, 4] for epoch in (4, 5)},
    }
    assert all(sorted(x for at, b in Net.seen if at == epoch for x in b) == [*range(SAMPLES)] for epoch in range(6))
    assert [report["metrics"]["batch_size"] for report in reports] == [8, 8, 16, 16, 20, 20]
    for stopped_after in (2, 3):  # where another size is due, and where the size was changed before
        asked = iter([*[False] * stopped_after, True])
        folder = tmp_path / str(stopped_after)
        fit(folder, config, Policy(stop=lambda asked=asked: next(asked)))  # type: ignore[misc]
        before = list(Net.seen)
        fit(folder, config)
        assert [*before, *Net.seen] == undisturbed


@pytest.mark.parametrize("grows, options", [(GROWING, {}), ({}, {"reload_dataloaders_every_n_epochs": 1})])
def test_a_fit_that_had_ended_goes_on_as_an_undisturbed_one(
    tmp_path: Path, grows: dict[str, Any], options: dict[str, Any]
) -> None:
    """It ends where its loaders would be made again, which draws from torch's generator."""
    fit(tmp_path / "undisturbed", run_file(grows, max_epochs=3, **options))
    undisturbed = list(Net.seen)
    fit(tmp_path / "ended", run_file(grows, max_epochs=2, **options))
    before = list(Net.seen)
    fit(tmp_path / "ended", run_file(grows, max_epochs=3, **options))
    assert [*before, *Net.seen] == undisturbed


class Cycled(Net):
    """Its schedule raises if it is stepped more often than the Trainer said."""

    steps: ClassVar[int] = 0

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        Cycled.steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=Cycled.steps)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


class Late(SingleDeviceStrategy):
    """Loads a checkpoint when the module and the optimizers are set up, as FSDP and DeepSpeed do."""

    restore_checkpoint_after_setup = True


def growing_trainer(**trainer: Any) -> L.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    grows = callbacks.DynamicBatchSize(**GROWING["DynamicBatchSize"])
    return L.Trainer(**quiet, enable_checkpointing=False, callbacks=[grows], **trainer)


@pytest.mark.parametrize(
    "options, steps",
    [
        ({"max_epochs": 6}, 8 + 8 + 4 + 4 + 4 + 4),
        ({"max_epochs": 3, "accumulate_grad_batches": 3}, 3 + 3 + 2),
        ({"max_epochs": 5, "limit_train_batches": 0.5}, 4 + 4 + 2 + 2 + 2),
        ({"max_epochs": 3, "limit_train_batches": 5}, 5 + 5 + 4),
        ({"max_epochs": 6, "max_steps": 19}, 19),
        ({"max_epochs": -1, "max_steps": 18}, 18),
    ],
)
def test_a_schedule_is_told_the_steps_of_all_sizes(options: dict[str, Any], steps: int) -> None:
    trainer = growing_trainer(**options)
    trainer.fit(Cycled(), Numbers())
    assert trainer.global_step == Cycled.steps == steps


class Asks(Net):
    def configure_optimizers(self) -> Any:
        assert self.trainer.estimated_stepping_batches > 8
        return super().configure_optimizers()


def test_loaders_that_a_schedule_asked_for_are_made_again_for_a_resumed_epoch(tmp_path: Path) -> None:
    first = growing_trainer(max_epochs=3)
    first.fit(Asks(), Numbers())
    first.save_checkpoint(tmp_path / "late.ckpt")
    Net.seen = []
    growing_trainer(max_epochs=5, strategy=Late("cpu")).fit(Asks(), Numbers(), ckpt_path=tmp_path / "late.ckpt")
    assert batches_by_epoch() == {3: [16] * 4, 4: [20, 20, 20, 4]}


class Checked(Net):
    """Notes the sizes of the batches that each epoch validates."""

    sizes: ClassVar[list[tuple[int, int]]] = []

    def validation_step(self, batch: Any, index: int) -> None:
        Checked.sizes.append((self.current_epoch, len(batch[0])))


class CheckedNumbers(Numbers):
    def val_dataloader(self) -> Any:
        return self.train_dataloader()


@pytest.mark.parametrize("every", [1, 2])
def test_validation_keeps_the_first_size_in_a_resumed_fit_too(tmp_path: Path, every: int) -> None:
    options = {"check_val_every_n_epoch": every, "num_sanity_val_steps": 0, "limit_val_batches": 1}
    config = run_file(GROWING, data="CheckedNumbers", max_epochs=4, **options)
    config = override(config, {"model.class_path": f"{HERE}.Checked"})
    asked = iter([False, False, False, True])
    Checked.sizes = []
    fit(tmp_path, config, Policy(stop=lambda: next(asked)))
    fit(tmp_path, config)
    assert Checked.sizes == [(epoch, 8) for epoch in range(4) if not (epoch + 1) % every]


class TwoLoaders(Numbers):
    def train_dataloader(self) -> Any:
        return [super().train_dataloader(), super().train_dataloader()]


class TwoBatches(Cycled):
    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        return super().training_step(batch[0], index)


def test_steps_that_can_not_be_counted_are_said() -> None:
    trainer = growing_trainer(max_epochs=1)
    with pytest.warns(UserWarning, match="estimated_stepping_batches is 8, the steps if no batch grew; write"):
        trainer.fit(TwoBatches(), TwoLoaders())


class Validated(Cycled):
    def validation_step(self, batch: Any, index: int) -> None:
        pass


class Validating(Numbers):
    val_dataloader = Numbers.train_dataloader


def test_an_interval_of_validation_that_a_later_epoch_is_too_short_for_is_refused_at_the_start() -> None:
    Net.seen = []
    with pytest.raises(InputError, match="val_check_interval is 6, but epoch 2 has 4 batches of 16: set it to 4 or"):
        growing_trainer(max_epochs=6, val_check_interval=6).fit(Validated(), Validating())
    assert not Net.seen
    growing_trainer(max_epochs=9, max_steps=16, val_check_interval=6).fit(Validated(), Validating())
    assert batches_by_epoch() == {0: [8] * 8, 1: [8] * 8}


def test_a_data_module_that_ignores_the_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="epoch 0 is due batches of 8, but train_dataloader makes batches of 4: let"):
        fit(tmp_path, run_file(GROWING, data="Fixed", max_epochs=1))
    with pytest.raises(ValueError, match="max_size at least initial"):
        callbacks.DynamicBatchSize(initial=32, max_size=16)
    assert [callbacks.DynamicBatchSize().size_in(e) for e in (0, 4, 5, 19, 20, 10**9)] == [16, 16, 32, 128, 256, 256]


def test_throughput_of_an_epoch(tmp_path: Path) -> None:
    *_, last = fit(tmp_path, run_file({"Throughput": {}}, max_epochs=2))
    metrics = last["metrics"]
    per_step = metrics["throughput/step_time_s"] + metrics["throughput/data_wait_s"]
    assert metrics["throughput/samples_per_s"] == pytest.approx(4 / per_step)
    assert 0 < metrics["throughput/data_wait_s"] < 1 and 0.05 < metrics["memory/process_gib"] < 64


ALL = {**GROWING, "GradientNorm": {"every_n_steps": 1}, "Throughput": {}}


def fit_all_on_rank(folder: Path) -> tuple[list[dict[str, Any]], list[tuple[int, list[int]]]]:
    Net.seen = []
    config = override(run_file(ALL, workers=2, max_epochs=3), {"model.class_path": f"{HERE}.Cycled"})
    reports = fit_rank(config, str(folder))
    assert Cycled.steps == len(Net.seen)
    return reports, Net.seen


def test_on_two_ranks(tmp_path: Path) -> None:
    """Each rank's batches have the size that is due, no sample is seen twice, and both ranks report the same."""
    ends = on_two_ranks(fit_all_on_rank, tmp_path)
    assert [how for how, _ in ends] == ["returned", "returned"], ends
    (reports, seen), (others, others_seen) = (value for _, value in ends)
    assert [len(b) for at, b in seen] == [8] * 8 + [16] * 2
    assert [len(b) for at, b in others_seen] == [8] * 8 + [16] * 2
    for epoch in range(3):
        samples = sorted(x for at, b in [*seen, *others_seen] if at == epoch for x in b)
        assert samples == [*range(SAMPLES)]
    assert [r["metrics"] for r in reports] == [r["metrics"] for r in others]
    assert {"gradients/layer.weight_norm", "throughput/samples_per_s", "batch_size"} <= reports[-1]["metrics"].keys()
