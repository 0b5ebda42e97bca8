import lightning as L
import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import nn


class SpiralNet(L.LightningModule):
    """Layers are made in configure_model, as for models too large to make on every process at once."""

    def __init__(
        self,
        classes: int,
        hidden: list[int] = [32, 32],
        dropout: float = 0.0,
        optimizer: OptimizerCallable = torch.optim.SGD,
        scheduler: LRSchedulerCallable = torch.optim.lr_scheduler.ConstantLR,
    ):
        super().__init__()
        self.save_hyperparameters(ignore=["optimizer", "scheduler"])
        self.optimizer, self.scheduler = optimizer, scheduler
        self.net = None
        self.best = 0.0

    def configure_model(self):
        if self.net is not None:
            return
        sizes = [2, *self.hparams.hidden]
        layers = []
        for inputs, outputs in zip(sizes, sizes[1:]):
            layers += [nn.Linear(inputs, outputs), nn.Tanh(), nn.Dropout(self.hparams.dropout)]
        self.net = nn.Sequential(*layers, nn.Linear(sizes[-1], self.hparams.classes))

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = nn.functional.cross_entropy(self(x), y)
        self.log("loss", loss, on_step=False, on_epoch=True, sync_dist=True)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("acc", (self(x).argmax(1) == y).float().mean(), sync_dist=True)

    def on_validation_epoch_end(self):
        if not self.trainer.sanity_checking:
            self.best = max(self.best, float(self.trainer.callback_metrics["acc"]))
            self.log("best_acc", self.best, sync_dist=True)

    def configure_optimizers(self):
        optimizer = self.optimizer(self.parameters())
        return {"optimizer": optimizer, "lr_scheduler": self.scheduler(optimizer)}

    def on_save_checkpoint(self, checkpoint):
        checkpoint["best"] = self.best

    def on_load_checkpoint(self, checkpoint):
        self.best = checkpoint["best"]
