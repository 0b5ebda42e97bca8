"""Where each rank of a fit is, and whether all of them wait for one that will never come."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import lightning as L

from trainer_app.errors import RanksApartError, TrainerError, UserError
from trainer_app.user_errors import Frame, find_line

# Where Python is while a collective operation waits: sure, or only if the thread uses no processor meanwhile
_COLLECTIVE: Final = ("/torch/distributed/",)
_MAYBE: Final = ("/torch/autograd/graph.py", "/torch/nn/parallel/distributed.py")


@dataclass(frozen=True)
class Position:
    """Where a rank is."""

    stage: str = "before training"
    epoch: int = 0
    train_batches: int = 0  # begun or to begin in this epoch
    val_batches: int = 0  # begun in the last validation
    trained: bool = False  # the epoch has no further batch
    validating: bool = False
    stack: int = 0  # a checksum of the lines that led to the collective operation
    line: str = ""  # the user's
    waits_s: float = 0.0  # at these lines, in a collective operation
    error: str = ""
    over: bool = False
    beat: int = 0  # grows while the rank's process lives

    def __str__(self) -> str:
        if self.over:
            return f"ended with {self.error}" if self.error else "has ended its fit"
        return f"waits {self.stage}{f' ({self.line})' if self.line else ''}"

    @property
    def place(self) -> tuple[object, ...]:
        """What is the same on two ranks that do the same."""
        return self.stage, self.epoch, self.train_batches, self.val_batches, self.stack


def locate(trainer: L.Trainer | None, frames: Sequence[Frame]) -> Position:
    """Return where a fit is.

    Args:
        trainer: None before it has begun.
        frames: of its stack, the innermost last.
    """
    code = [f"{file}:{line}" for file, line in frames if not _is_any(file, _COLLECTIVE)]
    stack, line = zlib.crc32("\n".join(code).encode()), find_line(frames)
    if trainer is None or trainer.state.stage is None:
        return Position(stack=stack, line=line)
    batches = trainer.fit_loop.epoch_loop.batch_progress
    between = batches.current.ready == batches.current.processed
    trained = between and batches.is_last_batch
    count = batches.current.ready + (between and not trained)  # of the next one it may wait for its turn
    return Position(
        stage=_describe_stage(trainer, count, trained=trained),
        epoch=trainer.current_epoch,
        train_batches=count,
        trained=trained,
        validating=trainer.validating or trainer.sanity_checking,
        stack=stack,
        line=line,
    )


def _describe_stage(trainer: L.Trainer, batch: int, *, trained: bool) -> str:
    epoch = trainer.current_epoch + 1
    if trainer.sanity_checking:
        return "in the sanity check"
    if trainer.validating:
        return f"in the validation of epoch {epoch}"
    return (
        f"at the end of epoch {epoch}, after {batch} batches"
        if trained
        else f"in training batch {batch} of epoch {epoch}"
    )


def may_wait(frames: Sequence[Frame], *, idle: bool) -> bool:
    """Return whether a thread with these frames is in a collective operation; `idle`: it uses no processor."""
    file = frames[-1][0] if frames else ""
    return _is_any(file, _COLLECTIVE) or (idle and _is_any(file, _MAYBE))


def find_problem(positions: Sequence[Position], patience_s: float) -> TrainerError | None:
    """Return the error of ranks that wait for each other; None if one may still come, or if it can't be told.

    Args:
        positions: of all ranks, in their order.
        patience_s: how long each of them has to have waited.
    """
    stuck = [p.over or (p.waits_s > 0 and p.waits_s >= patience_s) for p in positions]
    over = [rank for rank, p in enumerate(positions) if p.over]
    if not all(stuck) or len(over) == len(positions) or (not over and len({p.place for p in positions}) == 1):
        return None
    where = "; ".join(f"rank {rank} {position}" for rank, position in enumerate(positions))
    if failed := [rank for rank in over if positions[rank].error]:
        return UserError(f"rank {failed[0]} {positions[failed[0]]}; the other ranks wait for it", where)
    return RanksApartError(f"the ranks wait for each other: {where}. {_find_cause(positions, over)}")


def _find_cause(positions: Sequence[Position], over: Sequence[int]) -> str:
    if over:
        return f"Rank {over[0]} has ended before the others: let every rank train as many epochs and steps"
    for kind, counts, done in (
        ("train", [p.train_batches for p in positions], [p.trained for p in positions]),
        ("val", [p.val_batches for p in positions], [not p.validating for p in positions]),
    ):
        fewest = min(range(len(counts)), key=counts.__getitem__)
        if counts[fewest] < max(counts) and done[fewest]:
            return describe_uneven(kind, counts, fewest)
    return (
        "An operation of all ranks, such as self.log(..., sync_dist=True) or a barrier, is called on some of them "
        "only, as under `if self.global_rank == 0`: call it on every rank, or log with rank_zero_only=True, unsynced"
    )


def describe_uneven(kind: str, counts: Sequence[int], rank: int) -> str:
    """Return what is wrong, and the way out, if `rank` has the fewest batches; `kind` is train or val."""
    name = {"train": "training", "val": "validation"}[kind]
    few, most = counts[rank], max(counts)
    limit = f", or set trainer.limit_{kind}_batches: {few}" if few else ""
    return (
        f"Rank {rank} has {few} {name} batches and rank {counts.index(most)} has {most} or more: give every rank as "
        f"many, as DistributedSampler does{limit}"
    )


def _is_any(file: str, parts: Sequence[str]) -> bool:
    return any(part in file for part in parts)
