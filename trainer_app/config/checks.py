"""Checks beyond types: LightningCLI's raw blocks, and rules across blocks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from trainer_app.config.draft import Draft, Path, suggest_spelling
from trainer_app.config.lightning.keys import TRAINER_KEYS
from trainer_app.config.models import RunConfig

_CLASS_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_CLI = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*|.+\.py")
_TYPES: dict[str, Any] = {"int": int, "float": (int, float), "bool": bool, "str": str}
_TYPE_WORDS = {"int": "an integer", "float": "a number", "bool": "true or false", "str": "a string"}
_CLASS_KEYS = ("class_path", "init_args", "dict_kwargs")


def check_run_file(draft: Draft, config: RunConfig) -> None:
    """Report every problem that can be seen without importing the user's code."""
    from trainer_app.config.sweep import check_sweep

    if config.cli is not None and not _CLI.fullmatch(config.cli):
        draft.report(("cli",), "must be package.module:class_or_factory, or path/to/main.py", config.cli)
    _check_classes(draft, config)
    _check_trainer(draft, config)
    _check_scaling(draft, config)
    _check_checkpoint(draft, config)
    _check_start(draft, config)
    _note_arguments(draft, config)
    if config.tune is not None:
        check_sweep(draft, config, config.tune)


def _check_classes(draft: Draft, config: RunConfig) -> None:
    faults = {problem.key.split(".")[0] for problem in draft.problems}
    if config.model is None and config.cli is None and "model" not in faults:
        draft.report(("model",), "is missing", allowed="class_path and init_args of a LightningModule, or cli: ...")
    for name in ("model", "data", "optimizer", "lr_scheduler"):
        block = getattr(config, name)
        if block is not None and (config.cli is None or "class_path" in block):
            _check_class(draft, (name,), block, full=config.cli is None and name in ("model", "data"))
    for at, item in _components(config.trainer):
        if config.cli is None or "class_path" in item:  # the defaults of a cli may have the class
            _check_class(draft, at, item, full=False)


def _components(trainer: dict[str, Any]) -> Iterator[tuple[Path, dict[str, Any]]]:
    for key in ("callbacks", "callbacks+", "logger", "plugins", "profiler"):
        value = trainer.get(key)
        if isinstance(value, dict):
            yield ("trainer", key), value
        for i, item in enumerate(value if isinstance(value, list) else []):
            if isinstance(item, dict) and (key[:9] != "callbacks" or "class_path" in item):
                yield ("trainer", key, str(i)), item


def _check_class(draft: Draft, at: Path, block: dict[str, Any], *, full: bool) -> None:
    """Check a block of class_path and init_args; with `full` the class_path must name its package."""
    path = block.get("class_path")
    if "class_path" not in block:
        allowed = "class_path: package.module.Class" + (", the others below init_args" if block else "")
        cli = "; or cli: package.module:YourCLI where a LightningCLI knows the class" if at[0] != "trainer" else ""
        draft.report((*at, "class_path"), "is missing", allowed=allowed + cli)
        return
    if not isinstance(path, str) or not _CLASS_PATH.fullmatch(path) or (full and "." not in path):
        draft.report((*at, "class_path"), "must be package.module.Class", path)
    for key in block:
        if key not in _CLASS_KEYS:
            near = get_close_matches(str(key), _CLASS_KEYS, n=1)
            hint = f"did you mean {near[0] if near else f'init_args.{key}'}?"
            draft.report((*at, str(key)), "unknown key", allowed=f"allowed: class_path, init_args; {hint}")
    for key in _CLASS_KEYS[1:]:
        if block.get(key) is not None and not isinstance(block[key], dict):
            draft.report((*at, key), "must be a mapping of arguments", block[key])


def _check_trainer(draft: Draft, config: RunConfig) -> None:
    for key, value in config.trainer.items():
        at = ("trainer", str(key))
        types = TRAINER_KEYS.get(str(key).removesuffix("+"))
        if types is None:
            hint = suggest_spelling(str(key), list(TRAINER_KEYS))
            if config.cli is None or "did you mean" in hint:
                draft.report(at, "unknown key", allowed=hint)
            else:
                draft.note(at, "no argument of lightning.Trainer; left to the cli's own trainer class")
        elif types and value is not None and not any(_is(value, name) for name in types.split()):
            draft.report(at, f"must be {' or '.join(_TYPE_WORDS[name] for name in types.split())}", value)
    for key in ("max_epochs", "max_steps"):
        value = config.trainer.get(key)
        if isinstance(value, int) and (value < -1 or (value == 0 and key == "max_epochs")):
            draft.report(("trainer", key), "must be at least 1, or -1 for no end", value)
    if config.trainer.get("barebones") is True:
        draft.note(("trainer", "barebones"), "self.log does nothing with it: there are no metrics to show or tune by")


def _is(value: Any, name: str) -> bool:
    return isinstance(value, _TYPES[name]) and (name in ("bool", "str") or not isinstance(value, bool))


def _check_scaling(draft: Draft, config: RunConfig) -> None:
    scaling = config.scaling
    resources = scaling.resources_per_worker or {}
    at = ("scaling", "resources_per_worker", "GPU")
    if scaling.use_gpu is False and resources.get("GPU"):
        draft.report(at, "a GPU is requested, but scaling.use_gpu is false")
    if scaling.use_gpu is True and resources.get("GPU") == 0:
        draft.report(at, "no GPU is requested, but scaling.use_gpu is true")
    if "TPU" in resources:
        draft.report((*at[:2], "TPU"), "TPUs are not supported", resources["TPU"], "CPU, GPU and custom resources")
    if scaling.num_workers > 1 and 0 < resources.get("GPU", 0) < 1 and scaling.process_group_backend != "gloo":
        allowed = "whole GPUs, or process_group_backend: gloo"
        draft.report(at, "workers would share a GPU, which NCCL refuses", resources["GPU"], allowed=allowed)
    if scaling.use_gpu is False and scaling.accelerator_type is not None:
        key = ("scaling", "accelerator_type")
        draft.report(key, "is a kind of GPU, but scaling.use_gpu is false")


def _check_checkpoint(draft: Draft, config: RunConfig) -> None:
    checkpoint = config.checkpoint
    faults = {problem.key for problem in draft.problems}
    if checkpoint.monitor is not None and checkpoint.mode is None and "checkpoint.mode" not in faults:
        draft.report(
            ("checkpoint", "mode"), f"is missing with monitor: {checkpoint.monitor}", allowed="allowed: min, max"
        )
    if checkpoint.mode is not None and checkpoint.monitor is None and "checkpoint.monitor" not in faults:
        draft.report(("checkpoint", "monitor"), "is missing with mode", allowed="the name of a metric")


def _check_start(draft: Draft, config: RunConfig) -> None:
    """Check Lightning's words for `ckpt_path`: a new process has no fit before it whose best file could be meant."""
    path, word = config.ckpt_path, (config.ckpt_path or "").partition(":")[0].lower()
    allowed = "a path or a URI of a checkpoint; or --resume RUN to continue a run"
    if path in ("best", "hpc"):
        draft.report(("ckpt_path",), "means a file of a fit before, of which a new run has none", path, allowed)
    elif word == "registry":
        draft.report(("ckpt_path",), "Lightning's model registry is not read here", path, allowed)
    elif path == "last":
        draft.note(
            ("ckpt_path",), "last is the newest file of the project's ModelCheckpoint; without one it starts anew"
        )
    if path is not None and config.weights is not None:
        draft.report(("weights",), "goes without ckpt_path, which has weights of its own", allowed="keep one")


def _note_arguments(draft: Draft, config: RunConfig) -> None:
    plain = ("name", "cli", "seed_everything", "ckpt_path")
    blocks = [name for name in RunConfig.model_fields if name not in (*plain, "arguments")]
    for name, value in config.arguments.items():
        hint = suggest_spelling(name, blocks if isinstance(value, dict) else plain).partition("did you mean ")[2]
        if hint and name not in RunConfig.model_fields and (name,) in draft.lines:
            draft.note((name,), f"is read as an argument of the cli; did you mean {hint}")
