"""Load a checkpoint file with torch's weights_only=True, and say early what it would refuse."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType
from typing import Any, Final

import torch

from trainer_app.checkpoint.safe_types import safe_types, saved_at_once
from trainer_app.config.allowed_classes import ALLOWED, is_of_torch, why_never
from trainer_app.errors import ConfigError, Problem, TrainerError
from trainer_app.lightning_cli.importing import load_object

_TORCH_FUNCTIONS: Final = ("torch.nn.", "torch._utils._rebuild", "torchmetrics.functional.")  # others read files
_KEEP_OUT = "keep it out of hyperparameters and callback states"


def load_checkpoint(path: Path, allow: Sequence[str] = ()) -> dict[str, Any]:
    """Return a checkpoint's content, on the CPU; classes named in `allow` are permitted."""
    with allow_globals(allow):
        loaded: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return loaded


@contextmanager
def allow_globals(allow: Sequence[str]) -> Iterator[None]:
    """Let torch also unpickle `safe_types`, and the classes named in `allow`, within the context."""
    named = [(_load_allowed(name), name) for name in allow]
    classes = [cls for cls, _ in named if hasattr(cls, "__qualname__")]  # if the name is that of a re-export
    before = torch.serialization.get_safe_globals()
    torch.serialization.add_safe_globals([*safe_types(), *named, *classes])
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def _load_allowed(name: str) -> Any:
    """Return what a name of `checkpoint.allow` stands for. Raises ConfigError if it may never be called by a file."""
    value = load_object("checkpoint.allow", name)
    origin = f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', '')}"
    reason = why_never(name) or why_never(origin)
    if not reason and not isinstance(value, type):
        harmless = origin.startswith(_TORCH_FUNCTIONS) or not is_of_torch(origin)
        reason = "" if isinstance(value, FunctionType) and harmless else "it is no class"
    if reason:
        raise ConfigError([Problem("checkpoint.allow", f"{name} is never allowed: {reason}", name, ALLOWED)])
    return value


def check_loadable(path: Path, allow: Sequence[str]) -> None:
    """Find out at a save, not on resume, what torch would refuse to load.

    Raises:
        TrainerError: all classes that it refuses, and the line of the run file that permits them.
    """
    with allow_globals(allow):
        refused = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    if refused:
        raise TrainerError(_explain_refused(refused, allow))
    try:
        with allow_globals(allow):
            torch.load(path, map_location="cpu", weights_only=True, mmap=True)  # reads no weights
    except Exception as e:
        text = " ".join(str(e).split())
        reason = (text.partition("WeightsUnpickler error: ")[2] or text).partition(" Check the documentation")[0][:300]
        raise TrainerError(f"torch.load(weights_only=True) can't load the checkpoint: {reason}; {_KEEP_OUT}") from e


def check_savable(checkpoint: Mapping[str, Any], path: Path, allow: Sequence[str]) -> None:
    """Save without the weights' bytes, and find out what torch would refuse to load.

    Measured with 100 MB of weights: 0.03 s; with their bytes 0.5 s.

    Args:
        path: a temporary file.
        allow: the run file's `checkpoint.allow`: classes that may be loaded.

    Raises:
        TrainerError: as `check_loadable`, or it can't be pickled.
    """
    try:
        with torch.serialization.skip_data(), saved_at_once():
            torch.save(checkpoint, path)
    except Exception as e:
        raise TrainerError(f"the checkpoint can't be saved: {' '.join(str(e).split())[:300]}; {_KEEP_OUT}") from e
    check_loadable(path, allow)


def _explain_refused(refused: list[str], allow: Sequence[str]) -> str:
    """Return the refusal of all these names as one line."""
    what = f"the checkpoint holds what torch.load(weights_only=True) refuses: {', '.join(refused)}; {_KEEP_OUT}"
    never = [name for name in refused if why_never(name) and not name.startswith("builtins.")]
    if never:
        return f"{what}: {', '.join(never)} can't be allowed: {why_never(never[0])}"
    builtin = [name for name in refused if name.startswith("builtins.")]
    if builtin:
        why = "is how Python pickles a nested class or a method, and could call anything"
        return f"{what}: {', '.join(builtin)} {why}, so it can't be allowed"
    names = ", ".join([*allow, *refused])
    return f"{what}, or trust it: of a stored run --allow CLASS, in the run file checkpoint.allow: [{names}]"
