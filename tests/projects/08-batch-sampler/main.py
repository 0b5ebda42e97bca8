"""Metric learning: every batch has the same number of samples of each of a few classes."""

from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.cli import LightningCLI
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset


class BalancedBatches:
    """Yields lists of indices: `per_class` samples of each of `classes` classes."""

    def __init__(self, labels, classes, per_class, batches):
        self.labels, self.classes, self.per_class, self.batches = labels, classes, per_class, batches
        self.indices = [torch.where(labels == label)[0] for label in labels.unique()]
        self.epoch = 0

    def __len__(self):
        return self.batches

    def __iter__(self):
        random = torch.Generator().manual_seed(self.epoch)
        self.epoch += 1
        for _ in range(self.batches):
            chosen = torch.randperm(len(self.indices), generator=random)[: self.classes]
            batch = []
            for label in chosen:
                pool = self.indices[label]
                batch += pool[torch.randint(len(pool), (self.per_class,), generator=random)].tolist()
            yield batch


class MetricData(L.LightningDataModule):
    def __init__(self, classes: int = 5, per_class: int = 6, batches: int = 30):
        super().__init__()
        self.batches = (classes, per_class, batches)

    def setup(self, stage: str):
        digits = load_digits()
        x, y = torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target)
        self.train, self.val = (x[:1200], y[:1200]), (x[1200:], y[1200:])

    def train_dataloader(self):
        sampler = BalancedBatches(self.train[1], *self.batches)
        return DataLoader(TensorDataset(*self.train), batch_sampler=sampler)

    def val_dataloader(self):
        return DataLoader(TensorDataset(*self.val), batch_size=64)


class Embedder(L.LightningModule):
    def __init__(self, width: int = 16, margin: float = 0.2, lr: float = 1e-3):
        super().__init__()
        self.save_hyperparameters()
        self.net = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, width))
        self.validation = []

    def forward(self, x):
        return torch.nn.functional.normalize(self.net(x), dim=1)

    def training_step(self, batch, index):
        x, y = batch
        distance = torch.cdist(self(x), self(x))
        same = y[:, None] == y[None]
        hardest_positive = (distance * same).max(1).values
        hardest_negative = distance.masked_fill(same, 9).min(1).values
        loss = (hardest_positive - hardest_negative + self.hparams.margin).relu().mean()
        self.log("triplet", loss, prog_bar=True)
        return loss

    def validation_step(self, batch, index):
        self.validation.append((self(batch[0]), batch[1]))

    def on_validation_epoch_end(self):
        z, y = (torch.cat(part) for part in zip(*self.validation))
        self.validation.clear()
        nearest = torch.cdist(z, z).fill_diagonal_(9).argmin(1)
        self.log("recall_at_1", (y[nearest] == y).float().mean(), sync_dist=True)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), self.hparams.lr)


class WriteHistory(Callback):
    def on_validation_end(self, trainer, module):
        if trainer.is_global_zero and not trainer.sanity_checking:
            with Path("history.txt").open("a") as file:
                file.write(f"{trainer.current_epoch} {trainer.callback_metrics['recall_at_1']:.4f}\n")


class EmbedderCLI(LightningCLI):
    def __init__(self, *args, **kwargs):
        defaults = {"max_epochs": 2, "callbacks": [WriteHistory()]}
        super().__init__(Embedder, MetricData, *args, trainer_defaults=defaults, **kwargs)

    def before_fit(self):
        print(f"training on {len(self.datamodule.train_dataloader_sizes)} classes")

    def instantiate_classes(self):
        super().instantiate_classes()
        self.datamodule.train_dataloader_sizes = range(self.datamodule.batches[0])


if __name__ == "__main__":
    EmbedderCLI()
