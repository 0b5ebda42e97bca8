"""Commits of many objects: each rank uploads its own shards, rank 0 writes the manifest of all of them last.

Read on any number of ranks: torch.distributed.checkpoint finds for each rank which objects have its part.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.distributed import checkpoint as dcp
from torch.distributed._shard.sharded_tensor import ShardedTensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import _EmptyStateDictLoadPlanner
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.checkpoint.state_dict_loader import _load_state_dict
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.tensor import DTensor
from torch.utils import _pytree as pytree

from trainer_app.checkpoint.commit import Check, Commit, download_commit, name_commit, write_manifest
from trainer_app.checkpoint.loading import allow_globals, check_loadable
from trainer_app.checkpoint.shard_files import SafePlanner, ShardReader, ShardWriter, rank_of_file
from trainer_app.errors import TrainerError
from trainer_app.records.manifest import REST, Manifest
from trainer_app.storage import Store

_MODEL, _OPTIMIZERS = "state_dict", "optimizer_states"  # Lightning's keys in a checkpoint


def saves_shards(strategy: Any) -> bool:
    """Return whether a strategy of Lightning's writes a folder, with the shards of each rank."""
    of_fsdp = getattr(strategy, "_state_dict_type", "full") == "sharded"
    return of_fsdp or bool(getattr(strategy, "_save_distributed_checkpoint", False))


def localize(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Return a checkpoint with this rank's parts as plain tensors, to find out whether it can be saved and loaded."""
    local: dict[str, Any] = pytree.tree_map(_local_part, checkpoint)
    return local


def _local_part(value: Any) -> Any:
    if isinstance(value, DTensor):
        return value.to_local()
    return [shard.tensor for shard in value.local_shards()] if isinstance(value, ShardedTensor) else value


def write_sharded(
    store: Store, manifest: Manifest, checkpoint: dict[str, Any], folder: Path, allow: Sequence[str], check: Check
) -> Commit | None:
    """Upload this rank's part of a checkpoint; the last one to do so makes the commit. Called on every rank.

    Args:
        store: the fit's folder `checkpoints`.
        manifest: without `objects` and `name`; rank 0's counts.
        checkpoint: as Lightning dumps it, with sharded tensors; its weights and optimizers are taken out of it.
        folder: a temporary one of this rank.
        allow: the run file's `checkpoint.allow`.
        check: as for `write_commit`.

    Returns:
        the commit on rank 0, None on the others.

    Raises:
        TrainerError: on every rank, if one could not write; nothing is committed.
    """
    names = [name_commit(manifest.epochs, manifest.step, manifest.attempt)]
    torch.distributed.broadcast_object_list(names, src=0)
    tensors = {_MODEL: checkpoint.pop(_MODEL), **_number_optimizers(checkpoint.pop(_OPTIMIZERS, []))}
    is_first = torch.distributed.get_rank() == 0

    def save_rest() -> None:
        if is_first:
            torch.save(checkpoint, folder / REST)
            check_loadable(folder / REST, allow)

    writer = ShardWriter(folder, store.child(names[0]), save_rest)
    with _plain_failures():
        dcp.save(tensors, storage_writer=writer)
    objects: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(objects, writer.objects)
    if not is_first:
        return None
    check()
    return write_manifest(store, names[0], manifest, {key: one for each in objects for key, one in each.items()})


def keys_of_rank(manifest: Manifest, rank: int, world_size: int) -> list[str]:
    """Return which objects a rank downloads and verifies before a resume: all ranks together do so with each."""
    files = {key: rank_of_file(key) for key in manifest.objects}
    return [key for key, writer in files.items() if writer is None or writer % world_size == rank]


def load_shards(strategy: Any, commit: Commit, path: Path) -> dict[str, Any]:
    """Load a commit's weights and optimizers into a strategy that is set up, on every rank, and return the rest.

    Args:
        strategy: Lightning's, with `model` and `optimizers`.
        commit: in storage.
        path: of `meta.pt`, in a local folder of this rank for this commit, with what else was downloaded.
    """
    model, optimizers = strategy.model, strategy.optimizers
    reader = ShardReader(commit, path.parent)
    saved = {where[2] for where in (reader.read_metadata().planner_data or {}).values() if where[1:2] == ("state",)}
    with _gradients_as_saved(model, optimizers, saved), _plain_failures():
        states = [get_optimizer_state_dict(model, optimizer) for optimizer in optimizers]
        tensors = {_MODEL: get_model_state_dict(model), **_number_optimizers(states)}
        dcp.load(tensors, storage_reader=reader, planner=SafePlanner())
        strict = strategy.lightning_module.strict_loading
        set_model_state_dict(model, tensors[_MODEL], options=StateDictOptions(strict=strict))
        for index, optimizer in enumerate(optimizers):
            set_optimizer_state_dict(model, optimizer, tensors[f"optimizer_{index}"])
    return _load_rest(reader)


def load_whole(strategy: Any, path: Path) -> dict[str, Any]:
    """Load a plain Lightning checkpoint into a strategy that shards the model, on every rank, and return the rest.

    Args:
        strategy: as for `load_shards`.
        path: of the file, on this rank.
    """
    checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    model, strict = strategy.model, strategy.lightning_module.strict_loading
    set_model_state_dict(model, checkpoint.pop(_MODEL), options=StateDictOptions(full_state_dict=True, strict=strict))
    for optimizer, state in zip(strategy.optimizers, checkpoint.pop(_OPTIMIZERS, []), strict=False):
        names = _names(get_optimizer_state_dict(model, optimizer))
        named = _rename_parameters(state, dict(enumerate(names)))
        with _gradients_as_saved(model, [optimizer], named["state"]):
            set_optimizer_state_dict(model, optimizer, named, options=StateDictOptions(full_state_dict=True))
    return checkpoint


def consolidate(commit: Commit, folder: Path) -> Path:
    """Make one plain Lightning checkpoint of a sharded commit, in this process alone.

    Args:
        commit: in storage.
        folder: a local one for this commit, empty or with what was downloaded.

    Returns:
        the path of the file: `Trainer(ckpt_path=...)` and `load_from_checkpoint` take it, with any strategy.
    """
    tensors: dict[str, Any] = {}
    planner = type("Planner", (SafePlanner, _EmptyStateDictLoadPlanner), {})()
    reader = ShardReader(commit, folder)
    with _plain_failures():
        _load_state_dict(tensors, reader, no_dist=True, planner=planner)  # `dcp.load` loads keys that are there before
    states = [tensors[f"optimizer_{index}"] for index in range(len(tensors) - 1)]
    numbers = [{name: number for number, name in enumerate(_names(state))} for state in states]
    optimizers = [_rename_parameters(*both) for both in zip(states, numbers, strict=True)]
    whole = {**_load_rest(reader), _MODEL: tensors[_MODEL], _OPTIMIZERS: optimizers}
    torch.save(whole, folder / "whole.ckpt")
    return folder / "whole.ckpt"


def download_whole(commit: Commit, folder: Path, allow: Sequence[str] = ()) -> Path:
    """Download and verify a commit as one plain Lightning checkpoint, whose classes this process has imported.

    Args:
        commit: in storage.
        folder: a local one, empty.
        allow: classes that it may hold, by import path.

    Raises:
        CheckpointRejectedError: as `download_commit`. TrainerError: it has a class that is not allowed.
    """
    path = download_commit(commit, folder)
    check_loadable(path, allow)
    with allow_globals(allow):
        return consolidate(commit, folder) if commit.manifest.is_sharded else path


def _load_rest(reader: ShardReader) -> dict[str, Any]:
    """Return what of a checkpoint is neither weights nor optimizers."""
    rest: dict[str, Any] = torch.load(reader.get(REST), map_location="cpu", weights_only=True)
    return rest


@contextmanager
def _gradients_as_saved(model: Any, optimizers: Sequence[Any], saved: Container[str]) -> Iterator[None]:
    """Let parameters need a gradient if optimizers have saved a state of them: torch makes and loads it of these only.

    Others are those that a module does not use, or that a callback freezes or unfreezes in a later epoch.
    """
    if any(isinstance(module, FullyShardedDataParallel) for module in model.modules()):
        yield  # it has a state of all that it has flattened
        return
    before = []
    for optimizer in optimizers:
        names = _names(get_optimizer_state_dict(model, optimizer))
        optimizer.state.clear()
        for name, parameter in zip(
            names, (p for group in optimizer.param_groups for p in group["params"]), strict=True
        ):
            before.append((parameter, parameter.requires_grad))
            parameter.requires_grad_(name in saved)
    try:
        yield
    finally:
        for parameter, needs_gradient in before:
            parameter.requires_grad_(needs_gradient)


def _number_optimizers(states: Sequence[Any]) -> dict[str, Any]:
    """Return the states under the names that Lightning gives them in its own sharded checkpoints."""
    return {f"optimizer_{index}": state for index, state in enumerate(states)}


def _names(state: Mapping[str, Any]) -> list[str]:
    """Return the names of an optimizer's parameters, in the order in which `Optimizer.state_dict` numbers them."""
    return [name for group in state["param_groups"] for name in group["params"]]


def _rename_parameters(state: Mapping[str, Any], new: Mapping[Any, Any]) -> dict[str, Any]:
    """Return an optimizer's state with other names, or numbers, of its parameters."""
    groups = [{**group, "params": [new[name] for name in group["params"]]} for group in state["param_groups"]]
    return {"state": {new[name]: of_it for name, of_it in state["state"].items()}, "param_groups": groups}


@contextmanager
def _plain_failures() -> Iterator[None]:
    """Raise what failed on one rank, on every rank, in place of torch's list of all."""
    try:
        yield
    except CheckpointException as error:
        causes = [cause for cause, _ in error.failures.values()]
        ours = [cause for cause in causes if isinstance(cause, TrainerError)]
        raise (ours or causes or [error])[0] from error
