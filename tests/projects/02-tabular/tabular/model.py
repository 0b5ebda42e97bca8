import lightning as L
import torch
from torch import nn


class MLP(L.LightningModule):
    def __init__(self, num_features: int, hidden: int = 32, dropout: float = 0.1, batch_size: int = 1) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(
            nn.Linear(num_features, hidden),
            nn.BatchNorm1d(hidden),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, 3),
        )
        self.loss = nn.CrossEntropyLoss(label_smoothing=0.05)

    def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
        loss = self.loss(self.net(batch[0]), batch[1])
        self.log("train/loss", loss, on_epoch=True, on_step=True, batch_size=self.hparams.batch_size)
        return loss

    def validation_step(self, batch: list[torch.Tensor], _: int) -> None:
        out = self.net(batch[0])
        self.log_dict(
            {"val/loss": self.loss(out, batch[1]), "val/acc": (out.argmax(1) == batch[1]).float().mean()},
            sync_dist=True,
        )
