"""An input of a module's `forward`: its `example_input_array`, or the first batch of its data."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch.utils import _pytree as pytree

from trainer_app.errors import InputError

Inputs = tuple[tuple[Any, ...], dict[str, Any]]  # positional and by name
_SPLITS = ("predict", "val", "test", "train")
_STAGES = {"train": "fit", "val": "validate"}
_HINT = "give the module an example_input_array, or export its weights: --format safetensors"


def example_inputs(parts: Any) -> Inputs:
    """Return inputs of `forward`, with at least two samples where the first dimension of all tensors is the batch's.

    Args:
        parts: the module and its data.

    Raises:
        InputError: the module has no `forward`, or nothing says what that takes.
    """
    model = parts.model
    if type(model).forward is LightningModule.forward:
        raise InputError(f"export: {type(model).__name__} has no forward: {_HINT}")
    if model.example_input_array is not None:
        return _positional(model.example_input_array)
    for batch in _first_batches(parts):
        return _of_batch(model, batch)
    raise InputError(f"export: the data has no batch; {_HINT}")


def _positional(example: Any) -> Inputs:
    """Read an input as Lightning does: a tuple has arguments, a mapping arguments by name."""
    if isinstance(example, Mapping):
        return (), dict(example)
    return (tuple(example), {}) if isinstance(example, tuple | list) else ((example,), {})


def _first_batches(parts: Any) -> Iterator[Any]:
    """Yield the first batch of each split that there is."""
    source, trainer = parts.datamodule or parts.model, parts.trainer
    trainer.strategy.connect(parts.model)
    source.trainer = trainer
    if parts.datamodule is not None:
        source.prepare_data()
    for split in _SPLITS:
        method = getattr(source, f"{split}_dataloader")
        owner = next((base for base in type(source).__mro__ if method.__name__ in vars(base)), None)
        if owner is None or owner.__module__.startswith(("lightning.", "pytorch_lightning.")):
            continue
        if parts.datamodule is not None:
            source.setup(_STAGES.get(split, split))
        loaders = pytree.tree_leaves(method())
        yield from (next(iter(loader)) for loader in loaders[:1])


def _of_batch(model: Any, batch: Any) -> Inputs:
    """Return the part of a batch that `forward` takes: by its parameters' names, or as many as it has."""
    parameters = list(inspect.signature(model.forward).parameters.values())
    named = [one for one in parameters if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
    required = [one for one in named if one.default is one.empty]
    if isinstance(batch, Mapping) and any(one.kind is one.VAR_KEYWORD for one in parameters):
        return (), dict(batch)
    if isinstance(batch, Mapping) and named and all(one.name in batch for one in required):
        return (), {one.name: batch[one.name] for one in named if one.name in batch}
    if isinstance(batch, tuple | list):
        count = max(len(required), 1)
        if len(batch) < count:
            raise InputError(f"export: forward takes {count} inputs and a batch has {len(batch)}; {_HINT}")
        return tuple(batch[:count]), {}
    if len(required) <= 1:
        return (batch,), {}
    raise InputError(f"export: forward takes {len(required)} inputs and a batch is a {type(batch).__name__}; {_HINT}")


def repeat_batch(inputs: Inputs) -> Inputs:
    """Return the inputs with each sample twice; the same inputs if their tensors share no first dimension."""
    tensors = [leaf for leaf in pytree.tree_leaves(inputs) if isinstance(leaf, torch.Tensor) and leaf.ndim]
    if len({len(tensor) for tensor in tensors}) != 1:
        return inputs

    def twice(leaf: Any) -> Any:
        return torch.cat([leaf, leaf]) if isinstance(leaf, torch.Tensor) and leaf.ndim else leaf

    bigger: Inputs = pytree.tree_map(twice, inputs)
    return bigger


def describe_inputs(inputs: Inputs, bigger: Inputs) -> str:
    """Return the inputs in words, `float32[any, 4], int64[any]`: sizes that differ between the two may be any."""
    pairs = zip(pytree.tree_leaves(inputs), pytree.tree_leaves(bigger), strict=True)
    return ", ".join(_describe(*pair) for pair in pairs)


def _describe(leaf: Any, other: Any) -> str:
    if not isinstance(leaf, torch.Tensor):
        return repr(leaf)
    sizes = [str(size) if size == second else "any" for size, second in zip(leaf.shape, other.shape, strict=True)]
    return f"{str(leaf.dtype).removeprefix('torch.')}[{', '.join(sizes)}]"
