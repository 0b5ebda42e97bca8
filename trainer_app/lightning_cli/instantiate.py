"""The Trainer of a LightningCLI, with what a run sets, and with what it prefers if the user's parts don't mind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import (
    ModelCheckpoint,
    ModelSummary,
    RichModelSummary,
    RichProgressBar,
    TQDMProgressBar,
)
from lightning.pytorch.cli import LightningCLI, SaveConfigCallback

# What a Trainer adds to its callbacks unless it is told not to. It refuses a bar or a checkpoint of the user's if it is
# told so: these are removed from a finished Trainer, so that the user's stay, wherever they come from.
_ADDED_UNASKED: Final[dict[str, tuple[type, ...]]] = {
    "enable_progress_bar": (RichProgressBar, TQDMProgressBar),
    "enable_model_summary": (RichModelSummary, ModelSummary),
    "enable_checkpointing": (ModelCheckpoint,),
}


def instantiate_trainer(
    cli: LightningCLI,
    config: dict[str, Any],
    callbacks: list[Any],
    *,
    overrides: Mapping[str, Any],
    defaults: Mapping[str, Any],
    added: Sequence[Any],
) -> Trainer:
    """Return the Trainer that the CLI's own `_instantiate_trainer` makes.

    Args:
        config, callbacks: what the CLI calls that method with.
        overrides: arguments in place of the user's; instances are allowed.
        defaults: arguments where the user's are silent.
        added: callbacks, added to the user's.
    """
    overrides = dict(overrides)
    more = [*callbacks, *_as_list(overrides.pop("callbacks", None)), *added]
    silent = {key: value for key, value in defaults.items() if config.get(key, value) is None}
    own = [*_as_list(config.get("callbacks")), *more, *_as_list(cli.trainer_defaults.get("callbacks"))]
    unwanted = [kind for key, kinds in _ADDED_UNASKED.items() if silent.pop(key, None) is False for kind in kinds]
    trainer = type(cli)._instantiate_trainer(cli, {**config, **silent, **overrides}, more)
    trainer.callbacks = [c for c in trainer.callbacks if any(c is o for o in own) or not _is_plain(c, unwanted)]
    for callback in trainer.callbacks:
        if isinstance(callback, SaveConfigCallback):
            callback.save_to_log_dir = False  # only its own save_config: a file of a run before may be there
    return trainer


def _is_plain(callback: Any, kinds: Sequence[type]) -> bool:
    """Return whether a callback is one of `kinds` as the Trainer itself makes it, with no arguments."""
    return type(callback) in kinds and vars(callback) == vars(type(callback)())


def _as_list(value: Any) -> list[Any]:
    return [*value] if isinstance(value, list | tuple) else [] if value is None else [value]
