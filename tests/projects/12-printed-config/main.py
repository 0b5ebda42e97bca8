from typing import Literal, Optional, Union

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.cli import LightningCLI
from sklearn.datasets import load_diabetes
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler
from torchmetrics import MeanAbsoluteError, MetricCollection, R2Score


class Diabetes(LightningDataModule):
    """The patients with high values are drawn more often."""

    def __init__(self, batch_size: int = 32, val_rows: int = 90, weighted: bool = True):
        super().__init__()
        self.save_hyperparameters()

    def setup(self, stage: str):
        x, y = load_diabetes(return_X_y=True, scaled=True)
        x, y = torch.tensor(x).float() * 20, torch.tensor(y).float().unsqueeze(1) / 100
        cut = -self.hparams.val_rows
        self.train_set, self.val_set = TensorDataset(x[:cut], y[:cut]), TensorDataset(x[cut:], y[cut:])

    def train_dataloader(self):
        sampler = None
        if self.hparams.weighted:
            weights = self.train_set.tensors[1].flatten()
            sampler = WeightedRandomSampler(weights, len(weights))
        return DataLoader(self.train_set, self.hparams.batch_size, shuffle=sampler is None, sampler=sampler)

    def val_dataloader(self):
        return DataLoader(self.val_set, self.hparams.batch_size)


class Regression(LightningModule):
    def __init__(
        self,
        hidden: Union[int, list[int]] = 16,
        activation: Literal["relu", "tanh"] = "relu",
        dropout: Optional[float] = None,
        lr: float = 1e-2,
    ):
        super().__init__()
        self.save_hyperparameters()
        sizes = [10, *([hidden] if isinstance(hidden, int) else hidden)]
        act = {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh}[activation]
        layers = [
            layer
            for a, b in zip(sizes, sizes[1:])
            for layer in (torch.nn.Linear(a, b), act(), torch.nn.Dropout(dropout or 0.0))
        ]
        self.net = torch.nn.Sequential(*layers, torch.nn.Linear(sizes[-1], 1))
        self.scores = MetricCollection({"mae": MeanAbsoluteError(), "r2": R2Score()})

    def step(self, batch):
        guess = self.net(batch[0])
        return guess, torch.nn.functional.mse_loss(guess, batch[1])

    def training_step(self, batch, batch_idx):
        loss = self.step(batch)[1]
        self.log("train/loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        guess, loss = self.step(batch)
        self.scores(guess, batch[1])
        self.log("val/loss", loss, sync_dist=True)
        self.log_dict(self.scores, on_epoch=True)

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), self.hparams.lr, momentum=0.9)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.3)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "val/loss"}}


if __name__ == "__main__":
    LightningCLI(Regression, Diabetes)
