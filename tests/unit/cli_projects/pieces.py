"""The model and the data of the projects: four features, two classes, milliseconds a fit."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

FITTED: list[pl.LightningModule] = []  # every model that a fit started with, for the tests to look at


class Net(pl.LightningModule):
    def __init__(self, batch_size: int, num_classes: int = 2, width: int = 4, lr: float = 0.01) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.body = torch.nn.Sequential(torch.nn.Linear(4, width), torch.nn.ReLU(), torch.nn.Linear(width, num_classes))

    def on_fit_start(self) -> None:
        FITTED.append(self)

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        x, y = batch
        loss = torch.nn.functional.cross_entropy(self.body(x), y)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.hparams["lr"])


class SelfFed(Net):
    """A model that brings its own data."""

    def __init__(self, batch_size: int = 4, width: int = 4, lr: float = 0.01) -> None:
        super().__init__(batch_size, width=width, lr=lr)

    def train_dataloader(self) -> DataLoader[Any]:
        return loader(self.hparams["batch_size"])


class Data(pl.LightningDataModule):
    num_classes = 2

    def __init__(self, batch_size: int = 4, seed: int = 0) -> None:
        super().__init__()
        self.save_hyperparameters()

    def train_dataloader(self) -> DataLoader[Any]:
        return loader(self.hparams["batch_size"])


def loader(batch_size: int) -> DataLoader[Any]:
    x = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(x, (x.sum(1) > 0).long()), batch_size=batch_size)


class Probe(pl.Callback):
    """Has state, as EarlyStopping has."""

    def __init__(self) -> None:
        self.epochs = 0

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.epochs += 1


class OwnTrainer(pl.Trainer):
    """A Trainer of the project's own."""


class Choosy(Net):
    """Settles a choice once, before the run."""

    @classmethod
    def resolve_init_args(cls, init_args: dict[str, Any]) -> dict[str, Any]:
        return {**init_args, "width": 3 if init_args.get("width") == 0 else init_args.get("width", 4)}
