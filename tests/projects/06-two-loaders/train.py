"""Semi-supervised: labelled and unlabelled digits side by side; validated on clean and on noisy ones."""

import lightning as L
import torch
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.utilities import CombinedLoader
from sklearn.datasets import load_digits
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


class SemiSupervisedDigits(L.LightningDataModule):
    def __init__(self, labelled: int = 200, batch_size: int = 32, noise: float = 0.2):
        super().__init__()
        self.save_hyperparameters()

    def setup(self, stage=None):
        data = load_digits()
        x = torch.tensor(data.data, dtype=torch.float32) / 16
        y = torch.tensor(data.target)
        n = self.hparams.labelled
        self.labelled = TensorDataset(x[:n], y[:n])
        self.unlabelled = x[n:1400]
        noisy = x[1400:] + self.hparams.noise * torch.randn(x[1400:].shape, generator=torch.Generator().manual_seed(1))
        self.validation = [TensorDataset(part, y[1400:]) for part in (x[1400:], noisy)]

    def train_dataloader(self):
        size = self.hparams.batch_size
        loaders = {
            "labelled": DataLoader(self.labelled, size, shuffle=True),
            "unlabelled": DataLoader(self.unlabelled, 2 * size, shuffle=True),
        }
        return CombinedLoader(loaders, mode="max_size_cycle")

    def val_dataloader(self):
        return [DataLoader(part, 100) for part in self.validation]


class PseudoLabels(L.LightningModule):
    def __init__(self, hidden: int = 64, lr: float = 0.01, weight: float = 0.3, threshold: float = 0.8):
        super().__init__()
        self.save_hyperparameters()
        self.net = torch.nn.Sequential(torch.nn.Linear(64, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, 10))

    def training_step(self, batch, batch_idx):
        x, y = batch["labelled"]
        supervised = F.cross_entropy(self.net(x), y)
        logits = self.net(batch["unlabelled"])
        confidence, guess = logits.detach().softmax(1).max(1)
        sure = (confidence > self.hparams.threshold).float()
        consistency = (F.cross_entropy(logits, guess, reduction="none") * sure).mean()
        self.log_dict({"supervised": supervised, "consistency": consistency}, batch_size=len(x))
        return supervised + self.hparams.weight * consistency

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        x, y = batch
        self.log("acc", (self.net(x).argmax(1) == y).float().mean(), sync_dist=True)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.hparams.lr)


def cli_main():
    LightningCLI(PseudoLabels, SemiSupervisedDigits, seed_everything_default=7)


if __name__ == "__main__":
    cli_main()
