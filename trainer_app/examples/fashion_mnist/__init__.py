"""ResNet-18 on Fashion-MNIST: the example of Ray's guide to distributed training of Lightning modules.

Source: Ray documentation, "Get Started with Distributed Training using PyTorch Lightning".
"""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassAccuracy
from torchvision.models import resnet18

from trainer_app.data import BatchedDataset, Normalise, loader, split_indices
from trainer_app.examples.data import load_arrays, resolve_source


class ImageClassifier(pl.LightningModule):
    """ResNet-18 with one input channel and 10 classes. Takes float images [b, 1, h, w], gives logits [b, 10].

    Logs loss at each step; val_loss and val_accuracy, test_loss and test_accuracy once an epoch, as means over the
    samples of all workers.

    Args:
        lr: Adam's learning rate. An `optimizer` block in the run file replaces Adam and it.
    """

    def __init__(self, lr: float = 1e-3) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.lr = lr
        self.model = resnet18(num_classes=10)
        self.model.conv1 = nn.Conv2d(1, 64, kernel_size=(7, 7), stride=(2, 2), padding=(3, 3), bias=False)
        self.criterion = nn.CrossEntropyLoss()
        self.val_accuracy = MulticlassAccuracy(10, average="micro", validate_args=False)
        self.test_accuracy = MulticlassAccuracy(10, average="micro", validate_args=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        loss = self.criterion(self(x), y)
        self.log("loss", loss, on_step=True, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._score(batch, "val", self.val_accuracy)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._score(batch, "test", self.test_accuracy)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.model.parameters(), lr=self.lr)

    def _score(self, batch: tuple[Tensor, Tensor], stage: str, accuracy: MulticlassAccuracy) -> None:
        x, y = batch
        logits = self(x)
        accuracy.update(logits, y)
        # torchmetrics adds up over the workers by itself; a plain number needs sync_dist.
        self.log(f"{stage}_loss", self.criterion(logits, y), sync_dist=True, batch_size=len(y))
        self.log(f"{stage}_accuracy", accuracy, prog_bar=stage == "val", batch_size=len(y))


class FashionMNISTDataModule(pl.LightningDataModule):
    """Fashion-MNIST in memory: batches are float images [b, 1, 28, 28] and int64 labels [b].

    Args:
        batch_size: samples a batch, on each worker.
        source: `auto` (what is on this machine, such as Debian's package dataset-fashion-mnist, else a download, else
            the digits that come with scikit-learn), `download`, `digits`, a folder with the IDX files, or
            `s3://bucket/prefix` of the same.
        checksum: of the data that the run started with; `trainer` fills it in.
        split_seed: draws the validation images out of the training images; the same ones on every worker and trial.
    """

    def __init__(
        self, batch_size: int = 128, source: str = "auto", checksum: str | None = None, split_seed: int = 0
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.batch_size = batch_size
        self.source = source
        self.checksum = checksum
        self.split_seed = split_seed

    @classmethod
    def resolve_init_args(cls, init_args: dict[str, Any]) -> dict[str, Any]:
        """Resolve `source` and `checksum`; `trainer` calls this once, before the workers start."""
        return resolve_source(init_args, dataset="FashionMNIST")

    def setup(self, stage: str | None = None) -> None:
        data = load_arrays(self.source, dataset="FashionMNIST", checksum=self.checksum)
        train, val = split_indices(len(data.train_labels), seed=self.split_seed)
        scale = Normalise(mean=0.28604, std=0.32025)  # the guide's
        x, y = torch.from_numpy(data.train_images), torch.from_numpy(data.train_labels).long()
        self.train = BatchedDataset(x, y, rows=train, transform=scale)
        self.val = BatchedDataset(x, y, rows=val, transform=scale)
        x, y = torch.from_numpy(data.test_images), torch.from_numpy(data.test_labels).long()
        self.test = BatchedDataset(x, y, transform=scale)

    def train_dataloader(self) -> DataLoader:
        return loader(self.train, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        return loader(self.val, batch_size=self.batch_size)

    def test_dataloader(self) -> DataLoader:
        return loader(self.test, batch_size=self.batch_size)
