"""Lightning's searches for a learning rate and a batch size, which a resumed fit must not repeat.

A search saves a checkpoint before it and loads that one after it. In a resumed fit Lightning 2.6.6 has not restored the
epoch yet at that time, so that the search's checkpoint takes the fit back to epoch 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import BatchSizeFinder, LearningRateFinder
from lightning.pytorch.utilities.parsing import lightning_getattr, lightning_hasattr, lightning_setattr

from trainer_app import lightning_compat


def read_values(trainer: L.Trainer) -> dict[str, Any]:
    """Return the attributes that searches set, by name, for a checkpoint."""
    module = trainer.lightning_module
    names = [name for finder in _finders(trainer) if (name := _attribute(finder, module))]
    return {name: lightning_getattr(module, name) for name in names if lightning_hasattr(module, name)}


def write_values(module: L.LightningModule, values: dict[str, Any]) -> None:
    """Set what the searches of the fit that is resumed had set."""
    for name, value in values.items():
        if lightning_hasattr(module, name):
            lightning_setattr(module, name, value)


def pause(trainer: L.Trainer) -> None:
    """Let searches do nothing until `unpause`; a subclass may search again at a later epoch."""
    for finder in _finders(trainer):
        setattr(finder, _method(finder), _skip)


def unpause(trainer: L.Trainer) -> None:
    """Undo `pause`."""
    for finder in _finders(trainer):
        vars(finder).pop(_method(finder), None)


def _skip(trainer: L.Trainer, pl_module: L.LightningModule) -> None:
    """In place of a search whose result is known."""


def _finders(trainer: L.Trainer) -> Iterator[LearningRateFinder | BatchSizeFinder]:
    for callback in trainer.callbacks:
        if isinstance(callback, LearningRateFinder | BatchSizeFinder):
            yield callback


def _method(finder: LearningRateFinder | BatchSizeFinder) -> str:
    return "lr_find" if isinstance(finder, LearningRateFinder) else "scale_batch_size"


def _attribute(finder: LearningRateFinder | BatchSizeFinder, module: L.LightningModule) -> str | None:
    """Return the attribute that a search sets, None if it only reports."""
    if isinstance(finder, BatchSizeFinder):
        return finder._batch_arg_name
    return lightning_compat._determine_lr_attr_name(module, finder._attr_name) if finder._update_attr else None
