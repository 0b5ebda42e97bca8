"""At the end of each epoch: keep its metrics, commit a checkpoint, report.

The work is done when the next epoch is about to start (or the fit ends), not in `on_train_epoch_end`: only then have
the module's own `on_train_epoch_end` and the plateau schedulers run, so that what is committed is all of the epoch.
Lightning 2.6.6, 4 epochs: resumed from there, samples, weights and learning rates equal an undisturbed fit's.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from trainer_app import checkpoint as ckpt
from trainer_app import lightning_compat
from trainer_app.callbacks import guards, order, searches
from trainer_app.callbacks.monitor import MonitorCheck
from trainer_app.callbacks.ranks import mean_over_ranks
from trainer_app.callbacks.saving import write
from trainer_app.errors import StorageError
from trainer_app.records import FitFolder
from trainer_app.storage import try_once

STATE_KEY = "trainer_app"
_log = logging.getLogger(__name__)


@dataclass
class Policy:
    """When to commit, and what to keep. `every_n_epochs` >= 1; `keep` None keeps all.

    `stop` returns whether a user asked the run to stop. Rank 0 calls it before an epoch's results are written and the
    next one starts. If it raises, nothing is written.
    """

    every_n_epochs: int = 1
    keep: int | None = 2
    monitor: str | None = None
    monitor_key: str = "checkpoint.monitor"  # where the run file names it
    needs_monitor: bool = False  # also if the fit ends before its first validation
    mode: str | None = None
    allow: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    stop: Callable[[], bool] = lambda: False


@dataclass(eq=False, repr=False)
class EpochReporter(Callback):
    """Write every epoch's metrics to storage, commit checkpoints there, then call `report` on every rank.

    `report` gets {"epochs", "steps", "elapsed", "metrics", "commit", "uri"}: epochs counts finished epochs, elapsed is
    in seconds over all attempts, commit and uri are None if no commit was due.
    """

    fit_folder: FitFolder
    attempt: int  # the number of this start of the fit, 1-based
    policy: Policy
    report: Callable[[dict[str, Any]], None]
    elapsed: float = 0.0  # seconds that earlier attempts have trained

    def __post_init__(self) -> None:
        self.started = time.monotonic() - self.elapsed
        self.stopped = False
        self.known: list[ckpt.Commit] | None = None
        self._epoch_ended = False
        self._boundary = False
        self.resumed: ckpt.Manifest | None = None  # of the commit that this fit resumes from
        self._reached, self._begun, self._by_epoch = (0, 0), False, False
        self._restore: dict[str, Any] | None = None
        self._rehearsed = self._rehearsing = self._committing = False
        self._monitor = MonitorCheck(self.policy.monitor, self.policy.monitor_key, self.policy.needs_monitor)
        self._committed = 0.0  # seconds that the newest commit took
        self._before: dict[str, torch.Tensor] = {}
        self._last: dict[str, float] | None = None
        self.tensors = ckpt.CommittedTensors()

    # --- Lightning's hooks, in the order in which they fire

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        if self._begun:
            return  # a checkpoint that a callback saved in this fit and loads again
        self._restore = checkpoint.get(STATE_KEY)
        if self.resumed is not None and self._restore is not None:
            searches.write_values(pl_module, self._restore.get("searches", {}))

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._begun = True
        if self.resumed is not None:
            searches.pause(trainer)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        searches.unpause(trainer)
        if self._restore is not None and trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            # With max_steps Lightning takes every resume for one in mid-epoch: it skips the next epoch without a step
            # and leaves the schedulers as they are. This commit was made between two epochs.
            trainer.fit_loop._restarting = False
            trainer.fit_loop.epoch_loop.restarting = False

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        stop = self._asked_to_stop(trainer)
        self._reached = guards.check_progress(trainer, self.resumed, self._reached)
        guards.check_batches(trainer)
        if not self._rehearsed:
            self._rehearsed = self._rehearsing = True
            guards.rehearse_save(trainer, self.policy.allow)
            self._rehearsing = False
        if self._restore is not None:
            self._by_epoch = order.resume(trainer, self._restore)
            self._restore = None
        else:
            if self._epoch_ended:
                self._finish_epoch(trainer, self._logged(trainer), final=False, stop=stop)
            if self._by_epoch:
                order.seed_epoch(trainer)
        if stop:
            self.stopped = True
            raise lightning_compat._TunerExitException  # winds up and raises nothing
        self._before = dict(trainer.callback_metrics)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._epoch_ended = True

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._monitor.validated = self._monitor.validated or not trainer.sanity_checking

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._epoch_ended:
            guards.check_progress(trainer, self.resumed, self._reached)
            self._last = self._logged(trainer)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        if isinstance(exception, Exception):  # in the user's own hooks after the last epoch, which is not lost
            self._finish_last_epoch(trainer)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Commit the weights that the fit ends with: callbacks average and swap them in on_train_end and on_fit_end.

        Raises:
            TrainerError: no epoch of the run has logged the metric that decides which commit is best.
        """
        if self._last is not None:
            self._finish_last_epoch(trainer)
            self._monitor.check(trainer, self.fit_folder)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        if not (self._committing or self._rehearsing):
            return  # a file of ModelCheckpoint's or of a tuner's, as plain Lightning writes it
        checkpoint[STATE_KEY] = {
            "world_size": trainer.world_size,
            "rng": order.capture(trainer, all_ranks=not self._rehearsing),
            "by_epoch": self._by_epoch,
            "searches": searches.read_values(trainer),
        }
        if self._boundary:
            # Lightning has counted the next epoch as ready already. Left so, its restart takes the last epoch's
            # batches for the new epoch's and skips that one (measured: 12 steps instead of 16).
            progress = checkpoint["loops"]["fit_loop"]["epoch_progress"]
            progress["total"]["ready"] -= 1
            progress["current"]["ready"] -= 1

    # --- what the hooks do

    def _asked_to_stop(self, trainer: L.Trainer) -> bool:
        """Rank 0 asks for all, between two epochs: only from there does Lightning resume exactly."""
        return bool(trainer.strategy.broadcast(trainer.is_global_zero and self.policy.stop(), src=0))

    def _logged(self, trainer: L.Trainer) -> dict[str, float]:
        """Return what the epoch has logged. Without a validation the last one's tensors are there: the same objects."""
        return mean_over_ranks({k: v for k, v in trainer.callback_metrics.items() if self._before.get(k) is not v})

    def _finish_epoch(self, trainer: L.Trainer, metrics: dict[str, float], *, final: bool, stop: bool = False) -> None:
        """Write the epoch's metrics, commit if that is due (after the last epoch and on a stop always), report."""
        self._epoch_ended = False
        done = trainer.fit_loop.epoch_progress.current.processed
        elapsed = time.monotonic() - self.started
        if trainer.is_global_zero:
            line = {"epoch": done - 1, "step": trainer.global_step, "time": time.time(), "elapsed": round(elapsed, 3)}
            self.fit_folder.append_epoch(self.attempt, {**line, "committed": self._committed, "metrics": metrics})
            self._monitor.hint(metrics)
        due = final or stop or done % self.policy.every_n_epochs == 0
        began = time.monotonic()
        commit = self._commit(trainer, done, metrics, boundary=not final) if due else None
        self._committed = round(time.monotonic() - began, 3) if due else 0.0
        try:
            self.report(
                {
                    "epochs": done,
                    "steps": trainer.global_step,
                    "elapsed": elapsed,
                    "metrics": metrics,
                    "commit": commit.name if commit else None,
                    "uri": commit.uri if commit else None,
                }
            )
        finally:  # Tune may end a trial in its report
            if commit:
                self._retain(commit)

    def _finish_last_epoch(self, trainer: L.Trainer) -> None:
        metrics, self._last = self._last, None
        if metrics is not None:
            self._asked_to_stop(trainer)  # too late to stop; but raises in a worker of a driver that was replaced
            self._finish_epoch(trainer, metrics, final=True)

    def _commit(
        self, trainer: L.Trainer, done: int, metrics: dict[str, float], *, boundary: bool
    ) -> ckpt.Commit | None:
        """Save and upload, and return the commit on rank 0, None on the others."""
        manifest = ckpt.Manifest(
            epochs=done,
            step=trainer.global_step,
            attempt=self.attempt,
            world_size=trainer.world_size,
            time=time.time(),
            metrics=metrics,
            versions=self.policy.versions,
            schedules=guards.fixed_schedules(trainer),
        )
        self._boundary, self._committing = boundary, True
        try:
            return write(trainer, self.fit_folder, manifest, self.policy.allow, self.tensors)
        finally:
            self._boundary = self._committing = False

    def _retain(self, commit: ckpt.Commit) -> None:
        """Delete surplus commits; a storage that refuses is logged, and asked again at the next commit."""
        policy, once = self.policy, try_once(self.fit_folder.checkpoints)
        try:
            self.fit_folder.check_newest()
            commits = ckpt.list_commits(once) if self.known is None and policy.keep else self.known or []
        except StorageError as error:
            _log.warning("old checkpoints stay until the next one is written: %s", error)
            return
        before = [c for c in commits if c.name != commit.name]
        self.known = ckpt.prune([*before, commit], keep=policy.keep, monitor=policy.monitor, mode=policy.mode)
