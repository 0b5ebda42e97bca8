"""How fast a fit is, what it waits for, and how much memory it takes."""

from __future__ import annotations

import resource
import sys
import time
from typing import Any, Final

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.data import extract_batch_size
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from trainer_app.callbacks.ranks import gather

_GIB: Final = 1 << 30
_MAXRSS_UNIT: Final = 1 if sys.platform == "darwin" else 1024


class Throughput(Callback):
    """Log, once an epoch, over all workers: samples a second, seconds of a step and of waiting for data, memory.

    `throughput/samples_per_s` counts the samples of all workers; `throughput/step_time_s` is from a batch's arrival to
    its end, `throughput/data_wait_s` from one batch's end to the next one's arrival without validation, both means over
    the epoch's batches. `memory/process_gib` and `memory/gpu_gib` are the peaks of the worker that has the most.
    """

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._steps, self._samples, self._waited, self._stepped = 0, 0, 0.0, 0.0
        self._mark = time.perf_counter()

    def _lap(self) -> float:
        before, self._mark = self._mark, time.perf_counter()
        return self._mark - before

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._begin()

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._waited += self._lap()
        try:
            self._samples += extract_batch_size(batch)
        except MisconfigurationException:  # it holds no tensor: it counts as one sample
            self._samples += 1

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        self._stepped += self._lap()
        self._steps += 1

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._waited += self._lap()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._lap()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        gpu = pl_module.device if pl_module.device.type == "cuda" else None
        peak = torch.cuda.max_memory_allocated(gpu) if gpu else 0
        rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_UNIT
        every = gather((self._samples, max(self._steps, 1), self._stepped, self._waited, rss, peak))
        samples, steps, stepped, waited, rsses, peaks = zip(*every, strict=True)
        metrics = {
            "throughput/samples_per_s": sum(samples) / max(*map(sum, zip(stepped, waited, strict=True)), 1e-9),
            "throughput/step_time_s": sum(stepped) / sum(steps),
            "throughput/data_wait_s": sum(waited) / sum(steps),
            "memory/process_gib": max(rsses) / _GIB,
            **({"memory/gpu_gib": max(peaks) / _GIB} if gpu else {}),
        }
        pl_module.log_dict(metrics, on_step=False, on_epoch=True, batch_size=1, sync_dist=True)
