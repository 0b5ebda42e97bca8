"""One worker is one device: what plain Lightning trains in one process trains here, with the same metrics. No Ray."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, SequentialSampler, TensorDataset

from trainer_app.config import RunConfig
from trainer_app.lightning_cli import build_parts
from trainer_app.records import FitFolder
from trainer_app.run.spec import RunSpec
from trainer_app.training import worker

pytestmark = [pytest.mark.unit, pytest.mark.filterwarnings("ignore")]

HERE = "tests.unit.test_train_one_worker"
BAR = {"class_path": "lightning.pytorch.callbacks.TQDMProgressBar", "init_args": {"refresh_rate": 5}}
RATES = {"class_path": "lightning.pytorch.callbacks.LearningRateMonitor"}
FINDER = {"class_path": "lightning.pytorch.callbacks.BatchSizeFinder", "init_args": {"max_trials": 2, "init_val": 2}}
LR_FINDER = {"class_path": "lightning.pytorch.callbacks.LearningRateFinder", "init_args": {"num_training_steps": 5}}


class TwoThirds(BatchSampler):
    """A batch sampler of one's own, which Lightning can't make again for DDP."""

    def __init__(self, count: int) -> None:
        super().__init__(SequentialSampler(range(count)), 8, True)

    def __iter__(self) -> Iterator[list[int]]:
        return (batch for number, batch in enumerate(super().__iter__()) if number % 3)


class Stream(IterableDataset[Any]):
    """Has no length, and so its batch sampler has none."""

    def __init__(self, points: TensorDataset) -> None:
        self.points = points

    def __iter__(self) -> Iterator[Any]:
        return iter(self.points)


class Points(L.LightningDataModule):
    def __init__(self, batch_size: int = 8, own_sampler: bool = False, stream: bool = False) -> None:
        super().__init__()
        self.batch_size, self.own_sampler, self.stream = batch_size, own_sampler, stream
        x = torch.randn(64, 4, generator=torch.Generator().manual_seed(1))
        self.points = TensorDataset(x, (x.sum(1) > 0).long())

    def train_dataloader(self) -> Any:
        if self.own_sampler:
            return DataLoader(self.points, batch_sampler=TwoThirds(64))
        if self.stream:
            return DataLoader(Stream(self.points), batch_size=self.batch_size)
        return DataLoader(self.points, batch_size=self.batch_size, shuffle=True)


class Sorter(L.LightningModule):
    """`spare` is a head that its loss does not use."""

    def __init__(self, lr: float = 0.1) -> None:
        super().__init__()
        self.lr, self.net, self.spare = lr, torch.nn.Linear(4, 2), torch.nn.Linear(3, 3)

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        x, y = batch
        loss = torch.nn.functional.cross_entropy(self.net(x), y)
        self.log("loss", loss, on_step=False, on_epoch=True, sync_dist=True)
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.lr)


class Gan(L.LightningModule):
    """Two optimizers by hand, each loss through a part of the parameters."""

    def __init__(self, lr: float = 0.01) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.maker, self.judge, self.lr = torch.nn.Linear(2, 4), torch.nn.Linear(4, 1), lr

    def training_step(self, batch: Any, index: int) -> None:
        makes, judges = self.optimizers()
        real = batch[0]
        fake = self.maker(torch.randn(len(real), 2))
        judged = (self.judge(fake.detach()).sigmoid() + 1 - self.judge(real).sigmoid()).mean()
        judges.zero_grad()
        self.manual_backward(judged)
        judges.step()
        made = (1 - self.judge(fake).sigmoid()).mean()
        makes.zero_grad()
        self.manual_backward(made)
        makes.step()
        self.log_dict({"made": made, "judged": judged}, on_step=False, on_epoch=True)

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(part.parameters(), lr=self.lr) for part in (self.maker, self.judge)]


class Seen(L.pytorch.callbacks.Callback):
    """What plain Lightning logs, by epoch."""

    def __init__(self) -> None:
        self.metrics: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.metrics.append({name: value.item() for name, value in trainer.callback_metrics.items()})


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    """A group of one process, as Ray's TorchTrainer makes it."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize(
    "model, data, callbacks",
    [
        ("Gan", {}, []),
        ("Gan", {}, [BAR, RATES]),
        ("Sorter", {}, []),
        ("Sorter", {"own_sampler": True}, []),
        ("Sorter", {"stream": True}, []),
        ("Sorter", {}, [FINDER]),
        ("Sorter", {}, [LR_FINDER]),
    ],
    ids=[
        "GAN",
        "GAN, bar and rates",
        "unused head",
        "own batch sampler",
        "stream",
        "BatchSizeFinder",
        "LearningRateFinder",
    ],
)
def test_one_worker_trains_as_plain_lightning_does(
    model: str, data: dict[str, Any], callbacks: list[Any], tmp_path: Path
) -> None:
    config = RunConfig(
        seed_everything=7,
        model={"class_path": f"{HERE}.{model}"},
        data={"class_path": f"{HERE}.Points", "init_args": data},
        trainer={"max_epochs": 2, "callbacks": callbacks},
    )
    spec = RunSpec(run="r", uri=str(tmp_path / "runs"), config="", use_gpu=False)
    reports: list[dict[str, Any]] = []
    assert worker.fit_with_ray(config, spec, trial=None, report=reports.append) is False
    seen = Seen()
    root = {"default_root_dir": str(tmp_path), "devices": 1, "accelerator": "cpu"}
    parts = build_parts(config, trainer_kwargs=root, callbacks=[seen])
    parts.trainer.fit(parts.model, datamodule=parts.datamodule)
    assert len(seen.metrics) == 2
    assert [report["metrics"] for report in reports] == [pytest.approx(metrics, abs=1e-6) for metrics in seen.metrics]
    assert len(FitFolder(spec.run_store()).read_metrics()) == 2
