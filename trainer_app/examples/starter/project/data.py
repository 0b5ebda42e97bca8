"""The 1,797 images of digits that scikit-learn brings: replace them by your own data. Nothing is downloaded."""

from __future__ import annotations

import lightning as L
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset, random_split


class Digits(L.LightningDataModule):
    """80 % to train, 10 % to validate, 10 % to test: the same images for every worker and trial.

    Args:
        batch_size: per worker.
    """

    def __init__(self, batch_size: int = 32) -> None:
        super().__init__()
        self.save_hyperparameters()

    def setup(self, stage: str) -> None:
        digits = load_digits()
        images, labels = torch.tensor(digits.images, dtype=torch.float32) / 16, torch.tensor(digits.target)
        parts = random_split(TensorDataset(images, labels), [0.8, 0.1, 0.1], torch.Generator().manual_seed(0))
        self.train_set, self.val_set, self.test_set = parts

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(self.train_set, batch_size=self.hparams.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(self.val_set, batch_size=self.hparams.batch_size)

    def test_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(self.test_set, batch_size=self.hparams.batch_size)
