import lightning as L
import pandas as pd
import torch
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from torch.utils.data import DataLoader, TensorDataset


class WineData(L.LightningDataModule):
    """A table of numbers: the columns are scaled by the training rows."""

    def __init__(self, batch_size: int = 16, val_fraction: float = 0.25, drop: list[str] | None = None):
        super().__init__()
        self.save_hyperparameters()
        self.table: pd.DataFrame = load_wine(as_frame=True).frame.drop(columns=drop or [])

    @property
    def num_features(self) -> int:
        return self.table.shape[1] - 1

    def setup(self, stage: str) -> None:
        train, val = train_test_split(
            self.table, test_size=self.hparams.val_fraction, random_state=0, stratify=self.table["target"]
        )
        mean, std = train.mean(), train.std()
        self.sets = {}
        for name, rows in (("train", train), ("val", val)):
            scaled = ((rows - mean) / std).drop(columns="target")
            self.sets[name] = TensorDataset(
                torch.tensor(scaled.to_numpy(), dtype=torch.float32), torch.tensor(rows["target"].to_numpy())
            )

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.sets["train"], self.hparams.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.sets["val"], self.hparams.batch_size)
