"""In which order a resumed fit sees its samples: that of an undisturbed fit, or one drawn from seed and epoch."""

from __future__ import annotations

import hashlib
import os
import random
import sys
from collections.abc import Iterator
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.utilities import CombinedLoader

from trainer_app.callbacks.ranks import gather
from trainer_app.checkpoint import rng_state


def capture(trainer: L.Trainer, *, all_ranks: bool) -> list[dict[str, Any]]:
    """Return every rank's random state with that of the data loaders' own generators, or only this rank's."""
    state = {**rng_state.capture(), "loaders": [generator.get_state() for generator in _generators(trainer)]}
    if every := trainer.reload_dataloaders_every_n_epochs:
        state["made_in"] = [getattr(loop, name) for loop, name in _loops(trainer)]
        state["made_next"] = trainer.current_epoch - state["made_in"][0] >= every  # the fit ends here, for now
    return gather(state) if all_ranks else [state]


def resume(trainer: L.Trainer, state: dict[str, Any]) -> bool:
    """Restore a commit's random state in its next epoch, if as many workers made it; else seed that epoch.

    Args:
        state: with `rng` as `capture` returned it, `world_size`, and `by_epoch`, what this function returned before.

    Returns:
        whether each later epoch has to be seeded, too.
    """
    by_epoch = state.get("by_epoch", False) or state["world_size"] != trainer.world_size
    if by_epoch:
        seed_epoch(trainer)
    else:
        _restore(trainer, state["rng"][trainer.global_rank])
        if state["rng"][0].get("made_next"):
            iter(trainer.fit_loop._data_fetcher)  # an undisturbed fit does so where it makes data loaders again
    _resume_reloads(trainer, state["rng"][0].get("made_in", []))
    if trainer.current_epoch > 0:
        # An undisturbed fit makes the epoch's iterator after on_train_epoch_start, a restarted one before it: make it
        # again, so that a RandomSampler draws from the restored state, and a DistributedSampler knows its epoch.
        iter(trainer.fit_loop._data_fetcher)
        _report_order(trainer, state["world_size"])
    return by_epoch


def _restore(trainer: L.Trainer, state: dict[str, Any]) -> None:
    """Restore one rank's state, the data loaders' only if they have as many generators."""
    rng_state.restore(state)
    generators, states = _generators(trainer), state.get("loaders", [])
    for generator, of_it in zip(generators, states, strict=True) if len(generators) == len(states) else ():
        generator.set_state(of_it)


def _loops(trainer: L.Trainer) -> list[tuple[Any, str]]:
    """Return the loops and their attributes that say in which epoch the data loaders were made."""
    training = trainer.fit_loop
    validation = training.epoch_loop.val_loop
    return [(training, "_last_train_dl_reload_epoch"), (validation, "_last_val_dl_reload_epoch")]


def _resume_reloads(trainer: L.Trainer, epochs: list[float]) -> None:
    """Count `reload_dataloaders_every_n_epochs` from where the fit before counted, not from the resumed epoch."""
    for (loop, name), epoch in zip(_loops(trainer), epochs, strict=False):
        if trainer.current_epoch - epoch < trainer.reload_dataloaders_every_n_epochs:
            setattr(loop, name, epoch)


def seed_epoch(trainer: L.Trainer) -> None:
    """Seed every generator of this process, and the data loaders' own, from the run's seed and the epoch alone.

    After another number of workers no random state fits: two workers' order comes from DistributedSampler, one
    worker's from torch's generator, which dropout draws from, too.
    """
    text = f"{os.environ.get('PL_GLOBAL_SEED', '0')} {trainer.current_epoch}"
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    for generator in _generators(trainer):
        generator.manual_seed(seed)


def _report_order(trainer: L.Trainer, workers_before: int) -> None:
    """Say on rank 0, in the log, why a resumed fit's order may not be that of an undisturbed one."""
    if not trainer.is_global_zero:
        return
    start = f"epoch {trainer.current_epoch} and later ones"
    if workers_before != trainer.world_size:
        change = f"resumed with {trainer.world_size} workers after {workers_before}"
        _say(f"{change}: the order of the samples of {start} is drawn from seed and epoch, not an undisturbed run's")
    for sampler in {type(s) for s in _samplers(trainer) if _keeps_own_state(s)}:
        name = f"{sampler.__module__}.{sampler.__qualname__}"
        _say(f"if {name} keeps a random state of its own, it begins anew with {start}: give it set_epoch(epoch)")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _keeps_own_state(sampler: Any) -> bool:
    """Return whether a sampler is the user's and is not told the epoch: what it draws from is not known."""
    known = type(sampler).__module__.partition(".")[0] in ("torch", "lightning")
    return not known and not hasattr(sampler, "set_epoch") and not hasattr(sampler, "generator")


def _samplers(trainer: L.Trainer) -> Iterator[Any]:
    """Yield the samplers of the training data loaders."""
    for loader in CombinedLoader(trainer.train_dataloader).flattened:
        batches = getattr(loader, "batch_sampler", None)
        samplers = (getattr(loader, "sampler", None), batches, getattr(batches, "sampler", None))
        yield from (s for s in samplers if s is not None)  # not `if s`: one without a length raises


def _generators(trainer: L.Trainer) -> list[torch.Generator]:
    """Return the generators that the training data loaders and their samplers have of their own, each once."""
    if trainer.train_dataloader is None:
        return []
    holders = [*CombinedLoader(trainer.train_dataloader).flattened, *_samplers(trainer)]
    generators = [g for g in (getattr(holder, "generator", None) for holder in holders) if g is not None]
    return list(dict.fromkeys(g for g in generators if isinstance(g, torch.Generator)))
