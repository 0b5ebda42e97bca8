"""`trainer.strategy` of a Lightning project -> Ray's class with the same arguments."""

from __future__ import annotations

import re
from typing import Any

from trainer_app.config.draft import Draft, Path, suggest_spelling
from trainer_app.config.lightning.common import keep_environment, set_scaling
from trainer_app.config.lightning.keys import (
    NEED_GPUS,
    RAY_STRATEGIES,
    REFUSED_STRATEGIES,
    REFUSED_STRATEGY_ARGS,
    STRATEGIES,
)

_AT: Path = ("trainer", "strategy")
_LIGHTNING = ("lightning.", "pytorch_lightning.")
_TIMEDELTA = re.compile(r"(?:(\d+) days?, ?)?(\d+):(\d{2}):(\d{2}(?:\.\d+)?)")
_UNITS = {"weeks": 604800, "days": 86400, "hours": 3600, "minutes": 60, "seconds": 1, "milliseconds": 0.001}
_UNITS["microseconds"] = 1e-6


def adopt_strategy(draft: Draft, trainer: dict[str, Any]) -> None:
    """Replace `trainer.strategy`, in place: absent for `auto`, else Ray's class_path and init_args."""
    given = trainer.pop("strategy", None)
    if given is None:
        return
    strategy = _read(draft, given)
    if strategy is None:
        return
    path, args = strategy
    name = path.rpartition(".")[2]
    own = "." in path and not path.startswith((*_LIGHTNING, "ray."))
    if name in REFUSED_STRATEGIES and not own:
        draft.report(_AT, f"{name} can't run here: {REFUSED_STRATEGIES[name]}", given, "for example ddp or fsdp")
        return
    if name == "SingleDeviceStrategy" and not own:
        workers = draft.tree["scaling"].get("num_workers", 1)
        if workers != 1:
            draft.report(_AT, f"one device, but there are {workers} workers", given, "ddp, or scaling.num_workers: 1")
        return
    lightnings = name.removeprefix("Ray")
    target = path if own else RAY_STRATEGIES.get(lightnings)
    if target is None:
        draft.report(_AT, "unknown strategy", given, suggest_spelling(name, list(RAY_STRATEGIES)))
        return
    trainer["strategy"] = {"class_path": target, "init_args": _arguments(draft, args)}
    if own:
        draft.note(_AT, f"{path} must be a subclass of one of Ray's strategies for Lightning")
    elif target != path:
        draft.note(_AT, f"{given if isinstance(given, str) else path} becomes {target}")
    if not own and lightnings in NEED_GPUS:
        if draft.tree["scaling"].get("use_gpu") is False:
            draft.report(
                _AT, "needs a GPU for each worker, but scaling.use_gpu is false", given, "on CPUs ddp or fsdp2"
            )
        draft.note(_AT, f"{lightnings} needs a GPU for each worker")


def _read(draft: Draft, given: Any) -> tuple[str, dict[str, Any]] | None:
    """Return class and arguments; None if there is nothing to do."""
    if isinstance(given, str) and "." not in given and not given.endswith("Strategy"):
        if given not in STRATEGIES:
            draft.report(_AT, "unknown strategy", given, suggest_spelling(given, list(STRATEGIES)))
            return None
        name, args = STRATEGIES[given]
        return (f"lightning.pytorch.strategies.{name}", dict(args)) if name else None
    if isinstance(given, str):
        return given, {}
    path = given.get("class_path") if isinstance(given, dict) else None
    if not isinstance(path, str) or not path:
        draft.report(_AT, "must be a name, or class_path with init_args", given, "for example ddp")
        return None
    for key in given:
        if key not in ("class_path", "init_args", "dict_kwargs"):
            draft.report((*_AT, str(key)), "unknown key", allowed="allowed: class_path, init_args")
    args = {}
    for key in ("init_args", "dict_kwargs"):
        part = given.get(key) or {}
        if not isinstance(part, dict):
            draft.report((*_AT, key), "must be a mapping", part)
            continue
        args.update(part)
    return path, args


def _arguments(draft: Draft, args: dict[str, Any]) -> dict[str, Any]:
    """Return the init_args of Ray's class; those of the process group move to `scaling`."""
    kept = {}
    for key, value in args.items():
        at = (*_AT, "init_args", str(key))
        if key in REFUSED_STRATEGY_ARGS:
            defaults, reason = REFUSED_STRATEGY_ARGS[key]
            if value is not None and value not in defaults:
                draft.report(at, f"can't be set: {reason}", value, "leave it out")
        elif key == "cluster_environment":
            path = value.get("class_path") if isinstance(value, dict) else value
            if value is not None and keep_environment(draft, at, path if isinstance(path, str) else None):
                draft.report(at, "Ray starts and places the workers, no other environment can", path, "leave it out")
        elif key == "timeout":
            seconds = _seconds(value)
            if seconds is not None:
                set_scaling(draft, "timeout_s", seconds, at, str(value))
            elif value is not None:
                draft.report(at, "is not a duration", value, "seconds, or hours:minutes:seconds as 0:30:00")
        elif key == "process_group_backend":
            if value is not None:
                set_scaling(draft, "process_group_backend", value, at, str(value))
        else:  # 5e8 is how Lightning's pages write an integer
            kept[key] = int(value) if isinstance(value, float) and value.is_integer() else value
    return kept


def _seconds(value: Any) -> float | None:
    """Return the seconds of a number, of jsonargparse's string of a timedelta, or of datetime.timedelta's init_args."""
    if _is_number(value):
        return float(value) if value > 0 else None
    if isinstance(value, str) and (match := _TIMEDELTA.fullmatch(value.strip())):
        days, hours, minutes, seconds = match.groups()
        return int(days or 0) * 86400.0 + int(hours) * 3600 + int(minutes) * 60 + float(seconds) or None
    if isinstance(value, dict):
        parts = value.get("init_args", value) if value.get("class_path", "datetime.timedelta") else None
        if isinstance(parts, dict) and parts and all(k in _UNITS and _is_number(v) for k, v in parts.items()):
            return float(sum(_UNITS[k] * v for k, v in parts.items())) or None
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
