"""A batch size that grows in a running fit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sized
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import CombinedLoader
from lightning.pytorch.utilities.parsing import lightning_getattr, lightning_hasattr, lightning_setattr
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch.utils.data import BatchSampler

from trainer_app.errors import InputError


class DynamicBatchSize(Callback):
    """Double the batch size of each worker every `increase_every` epochs: epoch e has initial * 2**(e//increase_every).

    The data loaders are made again for the epoch in which a new size is due, so that it is trained with it. The module
    or the data module needs an attribute or hyperparameter `batch_size` that its `train_dataloader` uses. Loaders of
    validation keep the size of epoch 0. A schedule that asks the Trainer for the steps of the fit,
    `estimated_stepping_batches`, gets those of all sizes.

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
            _estimate_with(self, trainer)
            self._validate_with_first_size(trainer, pl_module)

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Set the size of the epoch that a resumed fit starts with, before its loaders are made."""
        done = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
        lightning_setattr(pl_module, "batch_size", self.size_in(done))
        if trainer.train_dataloader is not None:  # a schedule asked for it before the strategy loaded the checkpoint
            self._reload(trainer)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Refuse a `val_check_interval` that is too long for a later epoch: Lightning would do so in that epoch."""
        interval = trainer.val_check_interval
        if not isinstance(interval, int) or trainer.check_val_every_n_epoch is None or not trainer.limit_val_batches:
            return
        for epoch, batches, _ in self._plan(trainer):
            if batches < interval:
                raise InputError(
                    f"DynamicBatchSize: trainer.val_check_interval is {interval}, but epoch {epoch} has {batches} "
                    f"batches of {self.size_in(epoch)}: set it to {batches} or less, or to a part of an epoch as 0.5"
                )

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
            self._reload(trainer)

    def count_steps(self, trainer: L.Trainer) -> int | None:
        """Return the optimizer's steps in a fit with an end, whose loaders are made; None if they can't be counted."""
        plan = list(self._plan(trainer))
        steps = sum(int(steps) for _, _, steps in plan)
        return (steps if trainer.max_steps == -1 else min(steps, trainer.max_steps)) if plan else None

    def _validate_with_first_size(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Make validation's loaders with one size: a resumed fit, which makes them later, has to see the same."""
        source: Any = trainer.fit_loop.epoch_loop.val_loop._data_source
        make = source.dataloader

        def make_with_first_size() -> Any:
            due = lightning_getattr(pl_module, "batch_size")
            lightning_setattr(pl_module, "batch_size", self.size_in(0))
            try:
                return make()
            finally:
                lightning_setattr(pl_module, "batch_size", due)

        source.dataloader = make_with_first_size

    def _reload(self, trainer: L.Trainer) -> None:
        """Let Lightning make the loaders again before the next epoch."""
        self._users_reload = trainer.reload_dataloaders_every_n_epochs
        trainer.reload_dataloaders_every_n_epochs = 1

    def _plan(self, trainer: L.Trainer) -> Iterator[tuple[int, int, float]]:
        """Yield of each size, until the fit ends, its first epoch, the batches in an epoch, and all optimizer steps.

        Nothing if there is not one loader with a length and torch's BatchSampler.
        """
        loaders = CombinedLoader(trainer.train_dataloader).flattened
        sampler: Any = getattr(loaders[0], "batch_sampler", None)
        if len(loaders) > 1 or type(sampler) is not BatchSampler or not isinstance(sampler.sampler, Sized):
            return
        end: Any = math.inf if trainer.max_epochs == -1 else max(trainer.max_epochs or 0, 1)
        epoch = done = 0
        while epoch < end and not 0 <= trainer.max_steps <= done:
            size = self.size_in(epoch)
            batches = _count_batches(sampler, size, trainer.limit_train_batches)
            epochs = end - epoch if size == self.max_size else min(self.increase_every, end - epoch)
            steps = math.ceil(batches / trainer.accumulate_grad_batches) * epochs
            yield epoch, batches, steps
            epoch, done = epoch + epochs, done + steps


def _count_batches(sampler: BatchSampler, size: int, limit: float) -> int:
    """Return the number of batches of a size, as Lightning limits it."""
    samples = len(sampler.sampler)
    batches = samples // size if sampler.drop_last else math.ceil(samples / size)
    return min(batches, limit) if isinstance(limit, int) else int(batches * limit)


def _estimate_with(growing: DynamicBatchSize, trainer: L.Trainer) -> None:
    """Let this Trainer count the steps of all sizes: Lightning's property multiplies the first epoch's."""
    plain: Any = type(trainer)

    def estimate(self: L.Trainer) -> int | float:
        first_sizes: int | float = plain.estimated_stepping_batches.fget(self)  # makes the loaders
        if self.max_epochs == -1 or self.num_training_batches == math.inf:
            return first_sizes
        steps = growing.count_steps(self)
        if steps is None:
            rank_zero_warn(
                "DynamicBatchSize counts steps only with one data loader that has a length and torch's BatchSampler: "
                f"trainer.estimated_stepping_batches is {first_sizes}, the steps if no batch grew; write the number of "
                "steps into the schedule's arguments"
            )
        return first_sizes if steps is None else steps

    trainer.__class__ = type(plain.__name__, (plain,), {"estimated_stepping_batches": property(estimate)})


def _batch_size(loader: Any) -> int | None:
    """Return the size of a loader's batches, None if it does not say."""
    size = getattr(loader, "batch_size", None)
    return size if size is not None else getattr(getattr(loader, "batch_sampler", None), "batch_size", None)
