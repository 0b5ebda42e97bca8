"""Write a commit's module as a file that other programs load, and keep it only if it computes what the module does."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch.utils import _pytree as pytree

from trainer_app.errors import InputError, TrainerError
from trainer_app.formatting import one_line
from trainer_app.storage import Store, open_store, split_uri
from trainer_app.temporary import temporary_folder
from trainer_app.training import tensor_file
from trainer_app.training.chosen import choose, loaded_parts
from trainer_app.training.example_input import Inputs, describe_inputs, example_inputs, repeat_batch
from trainer_app.user_errors import plain_errors

_log = logging.getLogger(__name__)
TOLERANCE: Final = {"rtol": 1e-4, "atol": 1e-5}  # another runtime adds in another order
Load = Callable[[Inputs], Any]


def export(
    store: Store,
    run: str,
    target: str,
    *,
    kind: str,
    trial: str | None = None,
    epoch: int | None = None,
    allow: Sequence[str] = (),
) -> dict[str, Any]:
    """Export a commit of a run to a file.

    Args:
        target: the file, a path or an S3 URI; it is there whole or not at all.
        kind: pt2, onnx, safetensors or state-dict.
        trial, epoch, allow: as `chosen.choose`.

    Returns:
        the event `export`: {"event", "format", "file", "checkpoint", "trial", "inputs"}.

    Raises:
        NotFoundError, CheckpointRejectedError, InputError: as `choose` and `loaded_parts`.
        TrainerError: the module can't be exported, or the file computes something else; no file is written.
    """
    chosen = choose(store, run, trial=trial, epoch=epoch, allow=allow)
    folder, name = split_uri(target)
    with loaded_parts(chosen) as parts, temporary_folder("export") as tmp:
        path = Path(tmp, "exported")
        if kind in ("safetensors", "state-dict"):
            inputs = ""
            _write_state(parts.model.state_dict(), path, kind, {"run": run, "checkpoint": chosen.checkpoint.name})
        else:
            inputs = _write_program(parts, path, kind)
        open_store(folder).put_file(name, path)
    where = {"file": target, "checkpoint": chosen.checkpoint.uri, "trial": chosen.checkpoint.trial}
    return {"event": "export", "format": kind, **where, "inputs": inputs}


def _write_state(state: dict[str, Any], path: Path, kind: str, about: dict[str, str]) -> None:
    """Write a module's tensors, and read them back."""
    if kind == "state-dict":
        torch.save(state, path)
        kept = torch.load(path, map_location="cpu", weights_only=True)
    else:
        tensor_file.write(state, path, about)
        kept = tensor_file.read(path)
    differing = [name for name, value in state.items() if not _same(value, kept.get(name))]
    if differing or kept.keys() != state.keys():
        raise TrainerError(f"export: the written file does not hold the module's {', '.join(differing) or 'tensors'}")


def _same(value: Any, kept: Any) -> bool:
    """Return whether two entries of a state are the same: tensors, or what holds some; NaN is itself."""
    (leaves, shape), (others, other_shape) = pytree.tree_flatten(value), pytree.tree_flatten(kept)
    return bool(shape == other_shape) and all(map(_same_leaf, leaves, others))


def _same_leaf(value: Any, kept: Any) -> bool:
    if not isinstance(value, torch.Tensor):
        return bool(value == kept)
    value = value.cpu()
    return torch.equal(value, kept) or (
        value.shape == kept.shape
        and torch.equal(value.isnan(), kept.isnan())
        and torch.equal(value[~value.isnan()], kept[~kept.isnan()])
    )


def _write_program(parts: Any, path: Path, kind: str) -> str:
    """Export `forward`, check it against the module, and return which inputs it takes."""
    with plain_errors(), torch.no_grad():
        inputs = example_inputs(parts)
        expected = _copied(parts.model, inputs)
        _check_outputs(expected, kind)
        if not _close(expected, _copied(parts.model, inputs)):
            raise TrainerError("export: the module's outputs differ between two calls with the same input")
        bigger, expected_bigger = _try_bigger(parts.model, inputs, expected)
    with torch.no_grad():
        load, got = _save(_export_programs(parts.model, inputs, bigger), inputs, path, kind)
        _check(expected, got)
        any_batch = _takes(load, bigger, expected_bigger)
    return describe_inputs(inputs, bigger if any_batch else inputs)


def _check_outputs(outputs: Any, kind: str) -> None:
    """Raise InputError if `forward` returns what a program can't."""
    plain = (torch.Tensor, type(None)) if kind == "onnx" else (torch.Tensor, type(None), bool, int, float)
    others = [leaf for leaf in pytree.tree_leaves(outputs) if not isinstance(leaf, plain)]
    if others:
        has = f"{kind} has tensors, and tuples, lists and mappings of them"
        raise InputError(f"export: forward returns {type(others[0]).__name__}; {has}")


def _try_bigger(model: Any, inputs: Inputs, expected: Any) -> tuple[Inputs, Any]:
    """Return the inputs with each sample twice and what the module makes of them; as they are if it can't."""
    bigger = repeat_batch(inputs)
    try:
        return bigger, _copied(model, bigger)
    except Exception:  # noqa: BLE001 - whatever the user's code says of a size
        return inputs, expected


def _copied(function: Any, inputs: Inputs) -> Any:
    """Call a function with copies: one that writes into its input changes no other call."""
    args, kwargs = copy.deepcopy(inputs)
    return function(*args, **kwargs)


def _export_programs(model: Any, inputs: Inputs, bigger: Inputs) -> Iterator[Any]:
    """Yield torch's programs of `forward`: for any size that differs between the inputs, and for the first's."""
    shapes = torch.export.AdditionalInputs()
    shapes.add(*inputs)
    shapes.add(*bigger)
    try:  # with the bigger one: torch takes a size of 1 as fixed
        yield torch.export.export(model, *bigger, dynamic_shapes=shapes.dynamic_shapes(model, *bigger))
    except Exception:  # noqa: BLE001 - whatever torch's tracer meets in the user's code
        _log.info("export: not for any batch size", exc_info=True)
    try:
        yield torch.export.export(model, *inputs)
    except Exception as error:
        raise TrainerError(f"export: torch.export can't trace this module: {one_line(error)[:500]}") from error


def _save(programs: Iterator[Any], inputs: Inputs, path: Path, kind: str) -> tuple[Load, Any]:
    """Write the first program that can be written and run; return it with its outputs.

    Raises:
        TrainerError: none can.
    """
    problem: BaseException = TrainerError("no program")
    for program in programs:
        try:
            load = _save_onnx(program, path) if kind == "onnx" else _save_pt2(program, path)
            return load, load(inputs)
        except Exception as error:  # noqa: BLE001 - whatever torch's converter, or the runtime, does not have
            _log.info("export: this program can't be written", exc_info=True)
            problem = error
    while problem.__cause__:
        problem = problem.__cause__
    raise TrainerError(f"export: {kind} can't have this module: {one_line(problem)[:300]}") from problem


def _save_pt2(program: Any, path: Path) -> Load:
    file = path.with_suffix(".pt2")  # the name says the format
    torch.export.save(program, file)
    file.rename(path)
    with path.open("rb") as stream:
        module = torch.export.load(stream).module()
    return lambda inputs: _copied(module, inputs)


def _save_onnx(program: Any, path: Path) -> Load:
    import onnxruntime

    torch.onnx.export(program, dynamo=True, verbose=False).save(str(path), external_data=False)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]

    def run(inputs: Inputs) -> Any:
        tensors = [leaf for leaf in pytree.tree_leaves(inputs) if isinstance(leaf, torch.Tensor)]
        return [
            torch.from_numpy(out)
            for out in session.run(None, dict(zip(names, [t.numpy() for t in tensors], strict=True)))
        ]

    return run


def _takes(load: Load, inputs: Inputs, expected: Any) -> bool:
    """Return whether the written file takes these inputs too. Raises TrainerError if it computes something else."""
    try:
        got = load(inputs)
    except Exception:  # noqa: BLE001 - a runtime says in its own way that a size is fixed
        return False
    _check(expected, got)
    return True


def _check(expected: Any, got: Any) -> None:
    """Raise TrainerError if the written file computes something else than the module."""
    if not _close(expected, got):
        raise TrainerError("export: the exported program's outputs differ from the module's; no file was written")


def _close(expected: Any, got: Any) -> bool:
    """Return whether two outputs have the same values, in this order, up to TOLERANCE."""
    leaves = [[leaf for leaf in pytree.tree_leaves(one) if leaf is not None] for one in (expected, got)]
    if len(leaves[0]) != len(leaves[1]):
        return False
    return all(_close_leaf(*pair) for pair in zip(*leaves, strict=True))


def _close_leaf(expected: Any, got: Any) -> bool:
    if not isinstance(expected, torch.Tensor):
        return bool(expected == got)
    same = expected.shape == got.shape
    return same and torch.allclose(expected.double(), got.double(), **TOLERANCE, equal_nan=True)
