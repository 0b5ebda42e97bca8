import lightning.pytorch as pl
import numpy as np
import torch
from sklearn import datasets
from torch.utils.data import DataLoader


class DigitVectors(pl.LightningDataModule):
    def __init__(self, batch_size: int = 32, noise: float = 0.0) -> None:
        super().__init__()
        self.batch_size, self.noise = batch_size, noise

    def prepare_data(self) -> None:
        np.save("digits.npy", datasets.load_digits().data.astype(np.float32) / 16)

    def setup(self, stage: str) -> None:
        rows = torch.from_numpy(np.load("digits.npy"))
        self.train_rows, self.val_rows = rows[:1400], rows[1400:]

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.train_rows, self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.val_rows, self.batch_size)


class Blobs(pl.LightningDataModule):
    def val_dataloader(self) -> DataLoader:
        return DataLoader(torch.randn(64, 64), 32)

    train_dataloader = val_dataloader
