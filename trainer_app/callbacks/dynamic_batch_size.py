"""A batch size that grows in a running fit."""

from __future__ import annotations

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import CombinedLoader
from lightning.pytorch.utilities.parsing import lightning_hasattr, lightning_setattr

from trainer_app.errors import InputError


class DynamicBatchSize(Callback):
    """Double the batch size of each worker every `increase_every` epochs: epoch e has initial * 2**(e//increase_every).

    The data loaders are made again for the epoch in which a new size is due, so that it is trained with it. The module
    or the data module needs an attribute or hyperparameter `batch_size` that its `train_dataloader` uses. Schedules
    that ask the Trainer for the steps of the fit get the number that the first size would have.

    Args:
        initial: the size in epoch 0.
        max_size: the largest.
        increase_every: epochs until it is doubled.
    """

    def __init__(self, initial: int = 16, max_size: int = 256, increase_every: int = 5) -> None:
        if min(initial, increase_every) < 1 or max_size < initial:
            raise ValueError("initial and increase_every must be at least 1, and max_size at least initial")
        self.initial, self.max_size, self.increase_every = initial, max_size, increase_every
        self._users_reload: int | None = None

    def size_in(self, epoch: int) -> int:
        """Return the batch size of an epoch, counted from 0."""
        doubled = min(epoch // self.increase_every, self.max_size.bit_length())
        return int(min(self.initial * 2**doubled, self.max_size))

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage == "fit":
            if not lightning_hasattr(pl_module, "batch_size"):
                raise InputError("DynamicBatchSize: neither the data module nor the model has a batch_size to set")
            lightning_setattr(pl_module, "batch_size", self.size_in(0))

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Set the size of the epoch that a resumed fit starts with, before its loaders are made."""
        done = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
        lightning_setattr(pl_module, "batch_size", self.size_in(done))

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._users_reload is not None:
            trainer.reload_dataloaders_every_n_epochs, self._users_reload = self._users_reload, None
        due = self.size_in(trainer.current_epoch)
        sizes = {_batch_size(loader) for loader in CombinedLoader(trainer.train_dataloader).flattened}
        if not sizes & {due, None}:
            made = ", ".join(str(size) for size in sorted(sizes, key=str))
            raise InputError(
                f"DynamicBatchSize: epoch {trainer.current_epoch} is due batches of {due}, but train_dataloader makes "
                f"batches of {made}: let it use self.batch_size or self.hparams.batch_size"
            )
        pl_module.log("batch_size", float(due), on_step=False, on_epoch=True, batch_size=1, sync_dist=True)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Let Lightning make the loaders of the next epoch again, if another size is due there."""
        following = trainer.fit_loop.epoch_progress.current.processed
        if self.size_in(following) != self.size_in(following - 1):
            lightning_setattr(pl_module, "batch_size", self.size_in(following))
            self._users_reload = trainer.reload_dataloaders_every_n_epochs
            trainer.reload_dataloaders_every_n_epochs = 1


def _batch_size(loader: Any) -> int | None:
    """Return the size of a loader's batches, None if it does not say."""
    size = getattr(loader, "batch_size", None)
    return size if size is not None else getattr(getattr(loader, "batch_sampler", None), "batch_size", None)
