"""The processes of one fit: torch.distributed's group, or this process alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


def get_rank() -> int:
    """Return this process's rank, 0 without a group."""
    return torch.distributed.get_rank() if _has_group() else 0


def get_world_size() -> int:
    """Return the number of processes, 1 without a group."""
    return torch.distributed.get_world_size() if _has_group() else 1


def gather(value: Any) -> list[Any]:
    """Return `value` of every rank, in the order of ranks."""
    if not _has_group():
        return [value]
    gathered: list[Any] = [None] * get_world_size()
    torch.distributed.all_gather_object(gathered, value)
    return gathered


def mean_over_ranks(metrics: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Return the scalars of all ranks; if ranks differ, the mean over those that logged the name.

    A metric logged with sync_dist=True or through torchmetrics is the same on every rank and stays as it is.
    """
    ranks = gather({name: value.item() for name, value in metrics.items() if value.numel() == 1})
    names = sorted({name for rank in ranks for name in rank})
    return {name: _mean([rank[name] for rank in ranks if name in rank]) for name in names}


def _mean(values: list[float]) -> float:
    return values[0] if all(v == values[0] for v in values) else sum(values) / len(values)


def _has_group() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
