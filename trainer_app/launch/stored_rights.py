"""What a storage says of a run, and the user's values do not: image, code, environment, volumes, network, ..."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cache
from typing import Any, Final

from ruamel.yaml import YAML

from trainer_app.config import RunConfig
from trainer_app.config.allowed_classes import find_refused
from trainer_app.config.models import Storage
from trainer_app.launch import helm
from trainer_app.launch.remote_run import Submission
from trainer_app.redact import redact_value

Path = tuple[str, ...]
# Values that give a run no right: how much, how many, for how long. All others count, also those of a newer chart.
SIZES: Final = (
    "lifetime.*",
    "workingFolder.*",
    "autoscaling.idleTimeoutSeconds",
    "autoscaling.upscalingMode",
    "autoscaling.resources.*",
    "submitter.resources.*",
    "head.trialDrivers",
    "head.disruptionBudget",
    *(
        f"{group}.{key}"
        for group in ("head", "poolDefaults", "pools.*")
        for key in ("resources.*", "shmSize", "tmpSize", "terminationGracePeriodSeconds")
    ),
    *(
        f"{group}.{key}"
        for group in ("poolDefaults", "pools.*")
        for key in ("replicas", "minReplicas", "maxReplicas", "idleTimeoutSeconds", "gpu.count", "spot.enabled")
    ),
)
_MISSING: Final = object()


def differences(stored: Submission, own: Mapping[str, Any], config: RunConfig) -> list[str]:
    """Return a line for each right that the storage gives a run, and neither the user's values nor the chart do.

    Args:
        stored: what the storage has of the run.
        own: the user's merged values, which are over those of the storage.
        config: the run file that the storage has.
    """
    defaults = _chart_values()
    own_leaves, lines = dict(_leaves(own)), []
    for path, value in _leaves(stored.values):
        before = _expected(path, own, defaults)
        if before != value and path not in own_leaves and not _is_size(path):
            lines.append(_line(".".join(path), None if before is _MISSING else before, value))
    image = helm.split_image(stored.launch.image) if stored.launch.image else {}
    named = {**defaults["image"], **(own.get("image") or {})}
    if any(named.get(key) != value for key, value in image.items()):
        lines.append(_line("--image", f"{named['repository']}:{named['tag']}", stored.launch.image))
    if stored.launch.code:
        lines.append(_line("--code", "", f"sha256 {stored.launch.code[:12]}"))
    lines += [f"run file: {refused}" for refused in find_refused(config.tree)]
    if config.checkpoint.allow:
        lines.append(_line("checkpoint.allow", [], config.checkpoint.allow))
    if config.storage.uri != Storage().uri and not any((own.get("storage") or {}).get(k) for k in ("bucket", "claim")):
        lines.append(_line("storage.uri", None, config.storage.uri))
    return lines


@cache
def _chart_values() -> dict[str, Any]:
    """Return the chart's own values."""
    text = (helm.chart_folder("trainer") / "values.yaml").read_text()
    values: dict[str, Any] = YAML(typ="safe", pure=True).load(text)
    return values


def changes(stored: Submission, cluster: Submission) -> list[str]:
    """Return a line for each value in which the storage differs from what the cluster has, which is what counts."""
    values, expected = dict(_leaves(stored.values)), dict(_leaves(cluster.values))
    keys = [path for path in dict.fromkeys([*values, *expected]) if values.get(path) != expected.get(path)]
    lines = [_line(".".join(path), expected.get(path), values.get(path)) for path in keys]
    for name in ("image", "code", "task"):
        mine, theirs = getattr(cluster.launch, name), getattr(stored.launch, name)
        lines += [_line(name, mine, theirs)] if mine != theirs else []
    return lines + (["the run file differs"] if stored.run_file != cluster.run_file else [])


def _line(key: str, expected: Any, value: Any) -> str:
    return f"{key}: {redact_value(expected)!r}, in the storage {redact_value(value)!r}"


def _leaves(values: Mapping[str, Any], path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield (path, value) of what is no mapping, and of empty mappings."""
    for key, value in values.items():
        here = (*path, str(key))
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, here)
        else:
            yield here, value


def _expected(path: Path, own: Mapping[str, Any], defaults: Mapping[str, Any]) -> Any:
    """Return what a value is without the storage: the user's, else the chart's; a pool's else poolDefaults'."""
    paths: Sequence[Path] = [path]
    if path[0] == "pools" and len(path) > 2:
        paths = [path, ("poolDefaults", *path[2:])]
    for where in paths:
        for values in (own, defaults):
            if (value := _value(values, where)) is not _MISSING:
                return value
    return _MISSING


def _value(values: Any, path: Path) -> Any:
    for key in path:
        if not isinstance(values, Mapping) or key not in values:
            return _MISSING
        values = values[key]
    return values


def _is_size(path: Path) -> bool:
    return any(
        len(path) >= len(parts) and all(map(fnmatchcase, path, parts)) and (parts[-1] == "*" or len(path) == len(parts))
        for parts in (pattern.split(".") for pattern in SIZES)
    )
