"""Averaged weights: what is validated and saved is their exponential moving average."""

import lightning.pytorch as pl
import torch
import torchmetrics
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.cli import LightningCLI
from sklearn.datasets import load_digits
from torch.optim.swa_utils import get_ema_avg_fn
from torch.utils.data import DataLoader, TensorDataset


class EMA(WeightAveraging):
    def __init__(self, decay: float = 0.9, from_step: int = 10):
        super().__init__(avg_fn=get_ema_avg_fn(decay))
        self.from_step = from_step

    def should_update(self, step_idx=None, epoch_idx=None):
        return step_idx is not None and step_idx >= self.from_step


class ConvNet(pl.LightningModule):
    def __init__(self, channels: int = 8):
        super().__init__()
        self.save_hyperparameters()
        self.net = torch.nn.Sequential(
            torch.nn.Conv2d(1, channels, 3),
            torch.nn.ReLU(),
            torch.nn.MaxPool2d(2),
            torch.nn.Flatten(),
            torch.nn.Dropout(0.2),
            torch.nn.Linear(9 * channels, 10),
        )
        self.metrics = torchmetrics.MetricCollection(
            {
                "acc": torchmetrics.Accuracy(task="multiclass", num_classes=10),
                "f1": torchmetrics.F1Score(task="multiclass", num_classes=10, average="macro"),
            },
            prefix="val_",
        )

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = torch.nn.functional.cross_entropy(self.net(x), y)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.metrics.update(self.net(x), y)

    def on_validation_epoch_end(self):
        self.log_dict(self.metrics.compute())
        self.metrics.reset()


class Digits(pl.LightningDataModule):
    def setup(self, stage):
        x, y = load_digits(return_X_y=True)
        x = torch.tensor(x, dtype=torch.float).view(-1, 1, 8, 8) / 16
        self.dataset = TensorDataset(x, torch.tensor(y))

    def train_dataloader(self):
        return DataLoader(torch.utils.data.Subset(self.dataset, range(1400)), batch_size=50, shuffle=True)

    def val_dataloader(self):
        return DataLoader(torch.utils.data.Subset(self.dataset, range(1400, 1797)), batch_size=100)


if __name__ == "__main__":
    LightningCLI(ConvNet, Digits, trainer_defaults={"deterministic": True})
