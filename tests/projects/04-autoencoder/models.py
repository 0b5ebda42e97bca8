from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer


class Autoencoder(pl.LightningModule, ABC):
    """What all autoencoders of this project share."""

    def __init__(self, optimizer: Callable[[Iterable], Optimizer] = torch.optim.Adam) -> None:
        super().__init__()
        self.make_optimizer = optimizer

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor: ...

    @abstractmethod
    def decode(self, z: Tensor) -> Tensor: ...

    def loss(self, x: Tensor) -> Tensor:
        return nn.functional.mse_loss(self.decode(self.encode(x)), x)

    def training_step(self, batch: Tensor, index: int) -> Tensor:
        loss = self.loss(batch)
        self.log("train/mse", loss)
        return loss

    def validation_step(self, batch: Tensor, index: int) -> None:
        self.log("val/mse", self.loss(batch), sync_dist=True)

    def configure_optimizers(self) -> Optimizer:
        return self.make_optimizer(self.parameters())


class Dense(Autoencoder):
    def __init__(self, latent: int = 8, hidden: int = 32, activation: nn.Module | None = None, **kwargs) -> None:
        super().__init__(**kwargs)
        self.encoder = nn.Sequential(nn.Linear(64, hidden), activation or nn.ReLU(), nn.Linear(hidden, latent))
        self.decoder = nn.Sequential(nn.Linear(latent, hidden), activation or nn.ReLU(), nn.Linear(hidden, 64))

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder(x)

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(z)


class Linear(Autoencoder):
    """Principal components, by gradient descent."""

    def __init__(self, latent: int = 8, **kwargs) -> None:
        super().__init__(**kwargs)
        self.components = nn.Parameter(torch.randn(64, latent) / 8)

    def encode(self, x: Tensor) -> Tensor:
        return x @ self.components

    def decode(self, z: Tensor) -> Tensor:
        return z @ self.components.T
