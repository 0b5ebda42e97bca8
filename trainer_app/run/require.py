"""What this install lacks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any, Final

from trainer_app.config import RunConfig
from trainer_app.errors import ConfigError, InputError, Problem, TrainerError

# The extras beside [train], and what each has to import.
EXTRAS: Final = {
    "tensorboard": ("tensorboard",),
    "mlflow": ("mlflow",),
    "wandb": ("wandb",),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "deepspeed": ("deepspeed",),
    "huggingface": ("transformers",),
    "ui": ("starlette", "uvicorn"),
}
_APART: Final = ("deepspeed", "huggingface")  # with a lock of their own
# Lightning's classes and Ray's that need one. TensorBoardLogger does not: it writes without the package that shows.
_NEEDED: Final = {
    "MLFlowLogger": "mlflow",
    "WandbLogger": "wandb",
    "DeepSpeedStrategy": "deepspeed",
    "RayDeepSpeedStrategy": "deepspeed",
}
_THEIRS: Final = ("lightning.", "pytorch_lightning.", "ray.")


def require(*modules: str, what: str) -> None:
    """Check that the `modules` of the extra [train] are installed.

    Only our own wheel is named: a package of its name in a registry is somebody else's.

    Args:
        what: the verb or option that needs them, for the message.

    Raises:
        TrainerError: some are missing; it says what to install.
    """
    missing = [name for name in modules if not is_installed(name)]
    if missing:
        how = "install trainer's wheel, or its checkout, with the extra [train] (README: Install)"
        raise TrainerError(f"{what} needs {', '.join(missing)}, not installed here: {how}")


def require_extra(extra: str, *, what: str) -> None:
    """Check that an extra is installed.

    Args:
        extra: a key of EXTRAS.
        what: the verb or option that needs it, for the message.

    Raises:
        InputError: it is not; the message has the command that installs it.
    """
    if problem := _lacks(extra):
        raise InputError(f"{what} {problem}")


def require_parts(config: RunConfig, arguments: Sequence[str] = ("logger", "strategy")) -> None:
    """Check that the extras of the loggers and of the strategy that a run file names are installed.

    Args:
        arguments: of the Trainer, that are looked at.

    Raises:
        ConfigError: some are not; each line has the key, and the command that installs it.
    """
    problems = [
        Problem(key, f"{name} {problem}")
        for key, name in _named_parts(config, arguments)
        if name in _NEEDED and (problem := _lacks(_NEEDED[name]))
    ]
    if problems:
        with config.locate_problems():
            raise ConfigError(problems)


def _named_parts(config: RunConfig, arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the key and the class name of Lightning's and Ray's parts in a run file."""
    for argument in arguments:
        value: Any = config.trainer.get(argument)
        parts = enumerate(value) if isinstance(value, list) else [("", value)]
        for place, part in parts:
            path = part.get("class_path") if isinstance(part, dict) else part
            if isinstance(path, str) and (path.startswith(_THEIRS) or "." not in path):
                key = f"trainer.{argument}" + (f".{place}" if place != "" else "")
                yield key, path.rpartition(".")[2]


def _lacks(extra: str) -> str:
    """Return what is missing of an extra, and how to install it; "" if it is there."""
    missing = [name for name in EXTRAS[extra] if not is_installed(name)]
    if not missing:
        return ""
    lock = "-c image/requirements.txt"
    if extra in _APART:
        lock += f" -c image/{extra}.txt"
    if extra == "deepspeed":
        lock += " --no-build-isolation-package deepspeed"
    command = f"uv pip install -r pyproject.toml --extra train --extra {extra} {lock}"
    image = f"for the image: make image EXTRAS={extra}"
    return f"needs {', '.join(missing)}, not installed here: in trainer's checkout, {command}; {image}"


def is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ImportError:  # one that is blocked
        return False
