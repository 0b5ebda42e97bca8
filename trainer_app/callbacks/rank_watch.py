"""Ends a fit whose ranks wait for each other for ever, since one of them does not do what the others do.

A fit of several ranks runs in a thread of its own; beside it each rank publishes once a second where it is, in the
store of the process group. A rank that is slow ends nothing: each one has to have waited in a collective operation for
`PATIENCE_S`, and one of them at another line than the others, or its fit is over.
"""

from __future__ import annotations

import contextvars
import itertools
import json
import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import asdict, replace
from typing import Any, Final

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from trainer_app.callbacks import ranks
from trainer_app.callbacks.rank_position import Position, find_problem, locate, may_wait
from trainer_app.records import to_json
from trainer_app.user_errors import Frame, describe_error, is_collective_error

PATIENCE_S = 20.0  # Ray may wait 30 s more for its process group: a run ends within 60 s
SAMPLE_S = 1.0
_ANSWER_S: Final = 5.0  # for the others to say where they are, after a collective operation failed
_GATE_S: Final = 0.02
_IDLE: Final = 0.02  # of a second of processor a second
_fits = itertools.count()  # equal on all ranks: each does its part of every fit


class RankWatch(Callback):
    """Runs one rank's part of a fit."""

    def __init__(self) -> None:
        self.trainer: L.Trainer | None = None
        self.failed_at: Position | None = None
        self.last, self.since = Position(), time.monotonic()
        self.clock, self.beat, self.val_batches, self.at_gate = 0.0, 0, 0, False
        group_store = torch.distributed.distributed_c10d._get_default_store()
        self.store = torch.distributed.PrefixStore(f"trainer_app/ranks/{next(_fits)}", group_store)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self.trainer = trainer

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        frames = [(f.f_code.co_filename, line) for f, line in traceback.walk_tb(exception.__traceback__)]
        self.failed_at = replace(locate(trainer, frames), waits_s=float("inf"))

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.val_batches = 0

    def on_validation_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        self.val_batches += 1

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        """Wait for the others at an epoch's end: operations of two kinds that meet end a process, in gloo.

        Not if all ranks know how many batches they have: `guards.check_batches` has compared them.
        """
        loop = trainer.fit_loop.epoch_loop
        if trainer.num_training_batches != float("inf") or not (loop.batch_progress.is_last_batch or loop.done):
            return
        key, world = f"epoch {trainer.current_epoch}", ranks.get_world_size()
        self.store.set(f"{key} {ranks.get_rank()}", "")
        self.at_gate = True
        while not self.store.check([f"{key} {rank}" for rank in range(world)]):
            time.sleep(_GATE_S)
        self.at_gate = False

    def run(self, fit: Callable[[], bool]) -> bool:
        """Return what `fit` returns, or raise what it raises.

        Raises:
            TrainerError: the ranks wait for each other; where each one is, and why.
            UserError: the others wait for a rank that ended with this error.
        """
        result: Future[bool] = Future()
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(_call, fit, result), name="fit", daemon=True)
        thread.start()
        while not wait([result], timeout=SAMPLE_S).done:
            self._publish(self._sample(thread))
            if self.last.waits_s >= PATIENCE_S:
                self._raise_problem(self._read(), PATIENCE_S)
        error = result.exception()
        if error is not None and is_collective_error(error):
            self._explain(error)
        self._publish(Position(error=describe_error(error) if error else "", over=True))
        return result.result()

    def _explain(self, error: BaseException) -> None:
        """Raise why a collective operation failed, if where the others are tells it."""
        self._publish(self.failed_at or self.last)
        deadline, before = time.monotonic() + _ANSWER_S, self._read()
        while time.monotonic() < deadline:
            time.sleep(SAMPLE_S / 4)
            self._publish(self.last)
            after = self._read()
            if all(new.over or new.beat > old.beat + 1 for old, new in zip(before, after, strict=True)):
                self._raise_problem(after, 0.0, error)

    def _sample(self, thread: threading.Thread) -> Position:
        frames = _frames(thread)
        position = replace(locate(self.trainer, frames), val_batches=self.val_batches)
        waits = may_wait(frames, idle=self._is_idle(thread)) or self.at_gate
        if not waits or position.place != self.last.place:
            self.since = time.monotonic()
        return replace(position, waits_s=time.monotonic() - self.since if waits else 0.0)

    def _is_idle(self, thread: threading.Thread) -> bool:
        """Return whether a thread has used next to no processor since the last call; only Linux tells that."""
        if not hasattr(time, "pthread_getcpuclockid") or thread.ident is None or not thread.is_alive():
            return False
        before, self.clock = self.clock, time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
        return self.clock - before < _IDLE * SAMPLE_S

    def _raise_problem(self, positions: list[Position], patience_s: float, error: BaseException | None = None) -> None:
        if problem := find_problem(positions, patience_s):
            raise problem from error

    def _read(self) -> list[Position]:
        keys = [str(rank) for rank in range(ranks.get_world_size())]
        try:
            texts = self.store.multi_get(keys) if self.store.check(keys) else []
        except RuntimeError:
            return []  # the store is gone with its process: Ray reports that one
        return [Position(**json.loads(text)) for text in texts]

    def _publish(self, position: Position) -> None:
        self.beat += 1
        self.last = replace(position, beat=self.beat, val_batches=self.val_batches)
        try:
            self.store.set(str(ranks.get_rank()), to_json(asdict(self.last)).decode())
        except RuntimeError:
            return


def _call(fit: Callable[[], bool], result: Future[bool]) -> None:
    try:
        result.set_result(fit())
    except BaseException as error:  # noqa: BLE001 - raised again by `run`
        result.set_exception(error)


def _frames(thread: threading.Thread) -> list[Frame]:
    """Return file and line of each call that a thread is in, the innermost last."""
    frame = sys._current_frames().get(thread.ident or 0)
    return [(f.f_code.co_filename, line) for f, line in traceback.walk_stack(frame)][::-1] if frame else []
