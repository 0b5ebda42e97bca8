"""The norm of each parameter's gradient, to find those that vanish or explode."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import FSDPStrategy
from torch.distributed.fsdp import ShardingStrategy

from trainer_app.callbacks.ranks import gather


class GradientNorm(Callback):
    """Log the L2 norm of each parameter's gradient as `gradients/NAME_norm`, and warn of large ones.

    It is that of the optimizer's step: after accumulation and over all workers, unscaled, before clipping. Loggers get
    it at that step; the run's metrics have each epoch's largest.

    Args:
        every_n_steps: optimizer steps between two measurements.
        threshold: a norm above it, or one that is not finite, is named in the log; null warns of none.
    """

    def __init__(self, every_n_steps: int = 100, threshold: float | None = 100.0) -> None:
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps must be at least 1, not {every_n_steps}")
        self.every_n_steps, self.threshold = every_n_steps, threshold
        self._largest: dict[str, float] = {}

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._largest = {}

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Any) -> None:
        step = trainer.fit_loop.epoch_loop._batches_that_stepped  # global_step counts each optimizer of a batch
        if step % self.every_n_steps:
            return
        norms = dict(_norms(pl_module, optimizer))
        scale = _scale(trainer, optimizer)
        values = torch.stack(list(norms.values())).tolist() if norms else []
        whole = _sum_shards(trainer.strategy, {name: value / scale for name, value in zip(norms, values, strict=True)})
        metrics = {f"gradients/{name}_norm": value for name, value in whole.items()}
        self._largest |= {name: max(value, self._largest.get(name, value)) for name, value in metrics.items()}
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step=step)
        if self.threshold is not None and trainer.is_global_zero:
            large = [f"{name} {value:.2f}" for name, value in whole.items() if not value <= self.threshold]
            self._warn(trainer.global_step, large)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Not with `log`, which would have the ranks meet for each parameter: their gradients are the same."""
        trainer.callback_metrics.update({name: torch.tensor(value) for name, value in self._largest.items()})

    def _warn(self, step: int, large: list[str]) -> None:
        if large:
            text = f"WARNING: large gradient at step {step} (above {self.threshold:g}): {', '.join(large)}"
            print(text, file=sys.stderr, flush=True)


def _norms(module: L.LightningModule, optimizer: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield name and norm of each parameter of an optimizer that has a gradient."""
    stepped = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    for name, parameter in module.named_parameters():
        if id(parameter) in stepped and parameter.grad is not None:
            grad = parameter.grad.detach()
            norm = grad.to(torch.promote_types(grad.dtype, torch.float32)).norm(2)
            yield name, norm.full_tensor() if hasattr(norm, "full_tensor") else norm  # of all shards


def _sum_shards(strategy: Any, norms: dict[str, float]) -> dict[str, float]:
    """Return the norms of whole gradients: FSDP, other than FSDP2, gives each rank a plain part of some of them."""
    if not isinstance(strategy, FSDPStrategy):
        return norms
    ranks = gather(norms)
    is_whole = strategy.sharding_strategy is ShardingStrategy.NO_SHARD
    copies = len(ranks) / (1 if is_whole else strategy.model.process_group.size())  # more than 1 with HYBRID_SHARD
    names = dict.fromkeys(name for rank in ranks for name in rank)
    return {name: math.hypot(*(rank.get(name, 0.0) for rank in ranks)) / math.sqrt(copies) for name in names}


def _scale(trainer: L.Trainer, optimizer: Any) -> float:
    """Return what gradients are still multiplied with: a fused optimizer under 16-mixed divides in its own step."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    fused = getattr(optimizer, "_step_supports_amp_scaling", False)
    return float(scaler.get_scale()) if scaler is not None and fused else 1.0
