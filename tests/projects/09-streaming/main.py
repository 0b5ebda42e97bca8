import lightning as L
import torch
from lightning.pytorch.cli import LightningCLI
from stream import LineData


class Regressor(L.LightningModule):
    def __init__(self, hidden: int = 16, lr: float = 0.02):
        super().__init__()
        self.save_hyperparameters()
        self.net = torch.nn.Sequential(torch.nn.Linear(4, hidden), torch.nn.GELU(), torch.nn.Linear(hidden, 1))
        self.seen = 0

    def training_step(self, batch, batch_idx):
        x, y = batch
        self.seen += len(x)
        loss = torch.nn.functional.huber_loss(self.net(x), y)
        self.log("loss", loss)
        self.log("seen", float(self.seen), reduce_fx="max")
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("mae", torch.nn.functional.l1_loss(self.net(x), y), batch_size=len(x), sync_dist=True)

    def configure_optimizers(self):
        return torch.optim.RMSprop(self.parameters(), self.hparams.lr)


if __name__ == "__main__":
    LightningCLI(Regressor, LineData)
