"""A model that shards itself over a mesh, and its data."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import torch
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader, TensorDataset

VOCABULARY = 32


class Transformer(L.LightningModule):
    """A language model in small; with FSDP2 each layer is sharded, as Lightning's guide does it.

    Args:
        momentum: of SGD, in place of AdamW.
        kill_at: the epoch in which rank 1 kills itself, if the file `once` is not there, which it makes.
    """

    def __init__(
        self, width: int = 16, layers: int = 2, momentum: float = 0.0, kill_at: int = -1, once: str = ""
    ) -> None:
        super().__init__()
        self.save_hyperparameters()

    def configure_model(self) -> None:
        if hasattr(self, "head"):
            return
        width = self.hparams["width"]
        torch.manual_seed(1)
        self.embedding = nn.Embedding(VOCABULARY, width)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 2, 4 * width, dropout=0.0, batch_first=True)
            for _ in range(self.hparams["layers"])
        )
        self.head = nn.Linear(width, VOCABULARY)
        if self.device_mesh is not None:
            for layer in self.layers:
                fully_shard(layer, mesh=self.device_mesh["data_parallel"])
            if not isinstance(self, HalfSharded):
                fully_shard(self, mesh=self.device_mesh["data_parallel"])

    def on_train_epoch_start(self) -> None:
        if self.current_epoch == self.hparams["kill_at"] and self.global_rank == 1:
            once = Path(self.hparams["once"])
            if not once.exists():
                once.touch()
                os.kill(os.getpid(), signal.SIGKILL)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        hidden = self.embedding(tokens)
        for layer in self.layers:
            hidden = layer(hidden)
        return self.head(hidden)

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        (tokens,) = batch
        loss = nn.functional.cross_entropy(self(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        self.log("loss", loss, on_step=False, on_epoch=True, sync_dist=True)
        return loss

    def test_step(self, batch: Any, index: int) -> None:
        (tokens,) = batch
        self.log("test_loss", self(tokens[:, :-1]).square().mean())

    def configure_optimizers(self) -> Any:
        momentum = self.hparams["momentum"]
        optimizer: Any = torch.optim.AdamW(self.parameters(), lr=1e-2)
        if momentum:
            optimizer = torch.optim.SGD(self.parameters(), lr=1e-1, momentum=momentum)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.9)]


class Thawed(Transformer):
    """Has a layer that it does not use, and one that it trains from the second epoch on."""

    def configure_model(self) -> None:
        if not hasattr(self, "head"):
            self.unused = nn.Linear(2, 2)
            super().configure_model()
            self.head.requires_grad_(False)

    def on_train_epoch_start(self) -> None:
        self.head.requires_grad_(self.current_epoch > 0)


class HalfSharded(Transformer):
    """Shards its layers, and forgets what is around them."""


class NeedsMesh(Transformer):
    """Shards itself without asking whether there is a mesh."""

    def configure_model(self) -> None:
        assert self.device_mesh is not None
        super().configure_model()


class Measured(Transformer):
    """Notes the peak of the bytes of parameters and optimizer on this rank, with layers that are gathered."""

    count: ClassVar[int] = 0
    peak: ClassVar[int] = 0

    def on_train_start(self) -> None:
        Measured.count = sum(parameter.numel() for parameter in self.parameters())
        parts = [parameter.to_local() for parameter in self.parameters() if isinstance(parameter, DTensor)]
        self.shards = sum(part.untyped_storage().nbytes() for part in parts)
        for layer in self.layers:
            layer.linear1.register_forward_pre_hook(lambda *_: self.note())
            layer.linear1.register_full_backward_pre_hook(lambda *_: self.note())

    def on_before_zero_grad(self, optimizer: Any) -> None:
        self.note()

    def note(self) -> None:
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        state = [value for of_one in optimizer.state.values() for value in of_one.values()]
        state = [value.to_local() if isinstance(value, DTensor) else value for value in state]
        whole = [parameter for parameter in self.parameters() if not isinstance(parameter, DTensor)]
        Measured.peak = max(
            self.peak, self.shards + sum(tensor.untyped_storage().nbytes() for tensor in [*state, *whole])
        )


class Tokens(L.LightningDataModule):
    def __init__(self, count: int = 24, length: int = 9) -> None:
        super().__init__()
        self.tokens = torch.randint(0, VOCABULARY, (count, length), generator=torch.Generator().manual_seed(1))

    def train_dataloader(self) -> Any:
        return DataLoader(TensorDataset(self.tokens), batch_size=4, shuffle=True)

    test_dataloader = train_dataloader
