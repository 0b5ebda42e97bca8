"""Forecast a noisy wave with an LSTM. The module has its own loaders."""

import lightning as L
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Forecaster(L.LightningModule):
    def __init__(self, window: int = 16, hidden: int = 24, lr: float = 0.01, batch_size: int = 32):
        super().__init__()
        self.save_hyperparameters()
        self.lstm = nn.LSTM(1, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 1)
        self.example_input_array = torch.zeros(2, window, 1)

    def forward(self, x):
        out, _ = self.lstm(x)
        return self.head(out[:, -1])

    def prepare_data(self):
        time = torch.arange(0, 640) / 8
        random = torch.Generator().manual_seed(0)
        torch.save(time.sin() + 0.1 * torch.randn(len(time), generator=random), "wave.pt")

    def setup(self, stage):
        wave = torch.load("wave.pt")
        windows = wave.unfold(0, self.hparams.window + 1, 1)
        x, y = windows[:, :-1, None], windows[:, -1:]
        self.train_set, self.val_set = TensorDataset(x[:480], y[:480]), TensorDataset(x[480:], y[480:])

    def training_step(self, batch, batch_idx):
        loss = nn.functional.mse_loss(self(batch[0]), batch[1])
        self.log("train_mse", loss, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_mse", nn.functional.mse_loss(self(batch[0]), batch[1]), sync_dist=True)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.hparams.lr)

    def configure_callbacks(self):
        return [L.pytorch.callbacks.EarlyStopping("val_mse", patience=5)]

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.hparams.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=64)
