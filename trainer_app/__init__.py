"""Train and tune PyTorch Lightning models with Ray, on a laptop or on Kubernetes. In Python: docs/python.md."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from trainer_app.api import Checkpoint, Run, load_run, runs, submit, train, tune, validate
    from trainer_app.errors import InputError, RunFailedError, TrainerError

__all__ = [
    "Checkpoint",
    "InputError",
    "Run",
    "RunFailedError",
    "TrainerError",
    "load_run",
    "runs",
    "submit",
    "train",
    "tune",
    "validate",
]
_ERRORS: Final = ("InputError", "RunFailedError", "TrainerError")


def __getattr__(name: str) -> Any:
    """Import what a name stands for when it is first asked for: every process of Ray imports this package."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("trainer_app.errors" if name in _ERRORS else "trainer_app.api"), name)
