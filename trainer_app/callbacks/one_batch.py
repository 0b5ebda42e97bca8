"""What cuts a fit to one batch, for a rehearsal."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import lightning as L
from lightning.pytorch.callbacks import BatchSizeFinder, Callback, LearningRateFinder
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.utilities.model_helpers import is_overridden

from trainer_app import lightning_compat
from trainer_app.storage_uri import parse_scheme

LONG: Final = (LearningRateFinder, BatchSizeFinder)  # they train many batches before the first
_FOLDERS: Final = ("dirpath", "_save_dir", "_root_dir")  # of Lightning's checkpoints, profilers and loggers


class OneBatch(Callback):
    """Cut a fit to one batch of training and one of validation, and a test to one batch.

    The Trainer is built with the run's own limits, and cut when the parts are made: schedules, warm-ups and averages
    that count epochs or steps are the run's.

    Args:
        folder: a temporary one; what would be written to an absolute path or a URI is written there.
        only_restore: end the fit once it has restored its checkpoint.
    """

    def __init__(self, folder: Path, *, only_restore: bool = False) -> None:
        self.folder, self.only_restore = folder, only_restore
        self.left_out: list[str] = []
        self.logged: list[str] = []
        self.done: dict[str, None] = {}  # what was done, in order
        self.has_test = False

    def attach(self, trainer: L.Trainer) -> None:
        """Limit a Trainer that was built and does not run yet."""
        trainer.limit_val_batches = 1 if trainer.limit_val_batches else 0
        trainer.limit_test_batches = 1
        trainer.log_every_n_steps = 1
        for part in (*trainer.callbacks, *trainer.loggers, trainer.profiler):
            self._redirect(part)
        if self.only_restore:
            trainer.profiler = PassThroughProfiler()  # PyTorch's fails where it has measured nothing
            trainer.callbacks.insert(0, self)
        else:
            trainer.callbacks.append(self)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Leave out what takes long, and note whether there is a test."""
        self.left_out = [type(c).__name__ for c in trainer.callbacks if isinstance(c, LONG)]
        trainer.callbacks = [c for c in trainer.callbacks if not isinstance(c, LONG)]
        sources = [part for part in (pl_module, trainer.datamodule) if part is not None]
        has_data = any(is_overridden("test_dataloader", source) for source in sources)
        self.has_test = has_data and is_overridden("test_step", pl_module)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.only_restore:
            raise lightning_compat._TunerExitException  # winds up and raises nothing
        self._cut(trainer)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._cut(trainer)  # the data loader was made anew if the run file asks for that

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        trainer.should_stop = True  # after a validation, as with EarlyStopping
        self.done["trained"] = None

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.sanity_checking:
            self.done["validated"] = None

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.logged = sorted(trainer.callback_metrics)

    def _cut(self, trainer: L.Trainer) -> None:
        loop = trainer.fit_loop
        done_before = loop.epoch_loop.batch_progress.current.ready if loop.restarting else 0  # in mid-epoch
        loop.max_batches = min(loop.max_batches, done_before + 1)
        loop.min_epochs = loop.epoch_loop.min_steps = None
        trainer.check_val_every_n_epoch = 1

    def _redirect(self, part: Any) -> None:
        for name in _FOLDERS:
            path = getattr(part, name, None)
            if isinstance(path, str | Path) and (Path(path).is_absolute() or parse_scheme(str(path))):
                setattr(part, name, str(self.folder / "elsewhere"))
