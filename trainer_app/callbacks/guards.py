"""What ends a fit early, rather than let it lose what it trains."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import lightning as L
from torch.optim.lr_scheduler import OneCycleLR

from trainer_app.callbacks.rank_position import describe_uneven
from trainer_app.callbacks.ranks import gather
from trainer_app.checkpoint import PAYLOAD, Manifest
from trainer_app.checkpoint.loading import check_savable
from trainer_app.checkpoint.sharded import localize, saves_shards
from trainer_app.errors import RanksApartError, TrainerError
from trainer_app.records.manifest import Schedule
from trainer_app.temporary import temporary_folder


def rehearse_save(trainer: L.Trainer, allow: Sequence[str]) -> None:
    """Find out before the first epoch, not after it, what can't be saved or loaded. Nothing is kept."""
    new = [optimizer for optimizer in trainer.optimizers if not optimizer.state]
    try:
        checkpoint = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
    except Exception:  # noqa: BLE001 - a user's hook that needs a trained epoch: the first commit will call it
        return
    finally:
        for optimizer in new:  # torch has made a step of zeros to know a sharded one's state: AdamW then counts from 2
            optimizer.state.clear()
    if trainer.is_global_zero:
        if saves_shards(trainer.strategy):
            checkpoint = localize(checkpoint)
        with temporary_folder("ckpt") as tmp:
            check_savable(checkpoint, Path(tmp, PAYLOAD), allow)


def check_batches(trainer: L.Trainer) -> None:
    """Check that ranks that know how many training batches they have all have as many.

    Raises:
        RanksApartError: a rank has fewer; the others would wait for it for ever.
    """
    counts = gather(trainer.num_training_batches)
    fewest = min(range(len(counts)), key=counts.__getitem__)
    steps_left = trainer.max_steps - trainer.global_step
    if float("inf") not in counts and counts[fewest] < max(counts) and not 0 <= steps_left <= counts[fewest]:
        raise RanksApartError(describe_uneven("train", counts, fewest))


def fixed_schedules(trainer: L.Trainer) -> list[Schedule]:
    """Return the schedules that end with an error after their last step; of torch's only OneCycleLR does."""
    tops = [config.scheduler for config in trainer.lr_scheduler_configs]
    every = [*tops, *(inner for top in tops for inner in getattr(top, "_schedulers", ()))]
    cycles = [scheduler for scheduler in every if isinstance(scheduler, OneCycleLR)]
    return [Schedule(name=type(c).__name__, done=c.last_epoch, total=c.total_steps) for c in cycles]


def check_progress(trainer: L.Trainer, resumed: Manifest | None, reached: tuple[int, int]) -> tuple[int, int]:
    """Return the fit's finished epochs and steps.

    Args:
        resumed: the manifest of the commit that the fit started from, None for a new fit.
        reached: (epochs, steps) that the fit has had itself.

    Raises:
        TrainerError: they are fewer than in that commit, or than were `reached`.
    """
    reached = max(reached, (resumed.epochs, resumed.step) if resumed else reached)
    now = (trainer.fit_loop.epoch_progress.current.processed, trainer.global_step)
    if now[0] < reached[0] or now[1] < reached[1]:
        raise TrainerError(
            f"the fit went back from epoch {reached[0]}, step {reached[1]}, to epoch {now[0]}, step {now[1]}: a "
            "callback or a hook of the module loads a checkpoint; leave it out of trainer.callbacks, then resume"
        )
    return now
