import lightning as L
import torch
import torch.nn as nn
import torch.nn.functional as F
from lightning.pytorch.cli import LightningCLI
from torch.utils.data import DataLoader, TensorDataset


class RingData(L.LightningDataModule):
    """Points on a circle."""

    def __init__(self, points: int = 1024, batch_size: int = 64):
        super().__init__()
        self.points, self.batch_size = points, batch_size

    def setup(self, stage):
        rng = torch.Generator().manual_seed(5)
        angle = 6.2832 * torch.rand(self.points, generator=rng)
        ring = torch.stack([angle.cos(), angle.sin()], 1)
        self.ring = ring + 0.05 * torch.randn(ring.shape, generator=rng)

    def train_dataloader(self):
        return DataLoader(TensorDataset(self.ring), batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(TensorDataset(self.ring[:256]), batch_size=256)


def mlp(inputs, hidden, outputs):
    return nn.Sequential(
        nn.Linear(inputs, hidden),
        nn.LeakyReLU(0.2),
        nn.Linear(hidden, hidden),
        nn.LeakyReLU(0.2),
        nn.Linear(hidden, outputs),
    )


class GAN(L.LightningModule):
    def __init__(self, latent: int = 8, hidden: int = 32, lr_g: float = 1e-3, lr_d: float = 1e-3, n_critic: int = 2):
        super().__init__()
        self.save_hyperparameters()
        self.automatic_optimization = False
        self.generator = mlp(latent, hidden, 2)
        self.discriminator = mlp(2, hidden, 1)
        self.register_buffer("fixed_noise", torch.randn(256, latent))

    def training_step(self, batch, batch_idx):
        (real,) = batch
        opt_g, opt_d = self.optimizers()
        z = torch.randn(len(real), self.hparams.latent, device=self.device)

        self.toggle_optimizer(opt_d)
        fake = self.generator(z).detach()
        d_loss = F.softplus(-self.discriminator(real)).mean() + F.softplus(self.discriminator(fake)).mean()
        opt_d.zero_grad()
        self.manual_backward(d_loss)
        self.clip_gradients(opt_d, gradient_clip_val=1.0, gradient_clip_algorithm="norm")
        opt_d.step()
        self.untoggle_optimizer(opt_d)
        self.log("d_loss", d_loss, prog_bar=True)

        if batch_idx % self.hparams.n_critic == 0:
            self.toggle_optimizer(opt_g)
            g_loss = F.softplus(-self.discriminator(self.generator(z))).mean()
            opt_g.zero_grad()
            self.manual_backward(g_loss)
            opt_g.step()
            self.untoggle_optimizer(opt_g)
            self.log("g_loss", g_loss, prog_bar=True)

    def on_train_epoch_end(self):
        for schedule in self.lr_schedulers():
            schedule.step()

    def validation_step(self, batch, batch_idx):
        fake = self.generator(self.fixed_noise)
        self.log("radius_error", (fake.norm(dim=1) - 1).abs().mean(), sync_dist=True)

    def configure_optimizers(self):
        opt_g = torch.optim.Adam(self.generator.parameters(), lr=self.hparams.lr_g, betas=(0.5, 0.9))
        opt_d = torch.optim.Adam(self.discriminator.parameters(), lr=self.hparams.lr_d, betas=(0.5, 0.9))
        decay = [torch.optim.lr_scheduler.ExponentialLR(o, 0.95) for o in (opt_g, opt_d)]
        return [opt_g, opt_d], decay


if __name__ == "__main__":
    LightningCLI(GAN, RingData)
