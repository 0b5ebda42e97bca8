"""Lightning callbacks: what a run adds to the user's own Trainer, and what any run file can name by class_path."""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from trainer_app.callbacks.dynamic_batch_size import DynamicBatchSize
    from trainer_app.callbacks.gradient_norm import GradientNorm
    from trainer_app.callbacks.throughput import Throughput

__all__ = ["DynamicBatchSize", "GradientNorm", "Throughput"]
_MODULES: Final = {
    "DynamicBatchSize": "dynamic_batch_size",
    "GradientNorm": "gradient_norm",
    "Throughput": "throughput",
}


def __getattr__(name: str) -> Any:
    """Import a class when it is asked for: torch and Lightning are no part of a plain import."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
