"""The parts of a run file's Trainer, made one by one: their constructors raise here what they would raise in a run."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any, Final

import torch
from jsonargparse import ArgumentParser
from lightning.fabric.plugins import CheckpointIO, ClusterEnvironment
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins import LayerSync, Precision
from lightning.pytorch.profilers import Profiler
from lightning.pytorch.strategies import Strategy

from trainer_app.config import RunConfig
from trainer_app.errors import ConfigError, Problem
from trainer_app.lightning_cli.importing import unwrap_user_error
from trainer_app.user_errors import describe_error

_BASES: Final = {
    "callbacks": (Callback,),
    "logger": (Logger,),
    "profiler": (Profiler,),
    "plugins": (Precision, ClusterEnvironment, CheckpointIO, LayerSync),
    "strategy": (Strategy,),
}
# Loggers that are not made, since that may create something in their service, and what they import.
_SERVICES: Final = {
    "WandbLogger": "wandb",
    "MLFlowLogger": "mlflow",
    "CometLogger": "comet_ml",
    "LitLogger": "litlogger",
}


def check_parts(config: RunConfig) -> list[str]:
    """Make the callbacks, loggers, profiler, plugins and strategy that the run file names.

    Returns:
        a line for each that can't be made on this machine: it needs a GPU, or a service.

    Raises:
        ConfigError: what the others' constructors raise.
    """
    problems, notes = [], []
    for key, argument, block in _parts(config):
        service = _SERVICES.get(str(block.get("class_path")).rpartition(".")[2])
        if service and find_spec(service):
            notes.append(f"{key}: not made here: it reaches a service")
        elif service:
            problems.append(Problem(key, f"needs the package {service}, which is not installed"))
        elif error := _make(argument, block):
            if _needs_gpu(argument, block, error):
                notes.append(f"{key}: can't be made on this machine, which has no GPU: {describe_error(error)}")
            else:
                problems.append(Problem(key, f"making it raised {describe_error(error)}"))
    with config.locate_problems():
        if problems:
            raise ConfigError(problems)
    return notes


def _parts(config: RunConfig) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield (key in the run file, the Trainer's argument, block) of each part that is a class."""
    for key, value in config.trainer.items():
        argument = key.removesuffix("+")
        if argument not in _BASES:
            continue
        items = enumerate(value) if isinstance(value, list) else [("", value)]
        for index, block in items:
            if isinstance(block, dict) and "class_path" in block:
                yield f"trainer.{key}" + (f".{index}" if index != "" else ""), argument, block


def _make(argument: str, block: dict[str, Any]) -> Exception | None:
    """Return what the constructor of a part raises, if it does."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(_BASES[argument], "part")
    try:
        with contextlib.redirect_stdout(sys.stderr):
            parser.instantiate(parser.parse_object({"part": block}))
    except Exception as error:  # noqa: BLE001 - whatever the constructor raises
        return unwrap_user_error(error)
    return None


def _needs_gpu(argument: str, block: dict[str, Any], error: Exception) -> bool:
    """Return whether a GPU is what is missing; a strategy's or plugin's library may be installed only where one is."""
    if torch.cuda.is_available():
        return False
    text, package = str(error).lower(), block["class_path"].split(".")[0]
    of_a_library = "." not in block["class_path"] or package in ("lightning", "ray")
    return "gpu" in text or "cuda" in text or (argument in ("plugins", "strategy") and of_a_library)
