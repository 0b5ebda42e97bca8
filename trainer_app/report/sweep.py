"""What a page shows of a sweep: its best so far, its parameters and what they matter, its rungs, its costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from trainer_app.formatting import shorten_keys
from trainer_app.metric_order import best_of, is_better
from trainer_app.records import to_json
from trainer_app.records.models import STOP_REQUESTED, STORAGE_SILENT, TIME_BUDGET
from trainer_app.report.contour import contour
from trainer_app.report.importance import importance as rate
from trainer_app.report.sources import hide
from trainer_app.results import FitResults, RunResults

NOTHING: Final[dict[str, Any]] = {"importance": [], "importance_missing": None, "contour": None}
LARGEST: Final = 1e100  # beyond it a number is shown and not drawn: differences and squares of such overflow
LATER: Final = "the run wrote this page by itself; trainer report computes it"
_NO_RUNG: Final = (TIME_BUDGET, STOP_REQUESTED, STORAGE_SILENT)


def reason_of(fit: FitResults) -> str:
    """Return why a trial ended, its error included."""
    record = fit.record
    if record is None:
        return ""
    error = record.error if record.error and record.error not in record.reason else None
    return ": ".join(filter(None, (record.reason, error)))


def seconds_of(fit: FitResults) -> float | None:
    """Return what a fit cost: the seconds that it trained, or if no epoch ended those between its start and its end."""
    if fit.history:
        return float(fit.history[-1]["elapsed"])
    record = fit.record
    return record.ended - record.started if record and record.started and record.ended else None


def best_so_far(run: RunResults) -> list[dict[str, Any]]:
    """Return each epoch that was better than all before it: {time, value, trial, epoch}."""
    metric, mode, best, rows = run.record.metric, run.record.mode, None, []
    lines = [(line["time"], fit.trial, line) for fit in run.fits for line in fit.history]
    for time, trial, line in sorted(lines, key=lambda item: item[0]):
        value = line["metrics"].get(metric)
        if value is not None and is_better(value, best, mode):
            best = value
            rows.append({"time": time, "value": value, "trial": trial, "epoch": line["epoch"]})
    return rows


def parameters(run: RunResults, tree: Any) -> list[dict[str, Any]]:
    """Return the parameters of a sweep: {key, label, kind: number or category, log, values: of a category}."""
    return describe([hide(fit.params) for fit in run.trials], lambda key: "log" in _primitive(key, tree))


def describe(rows: Sequence[Mapping[str, Any]], is_log: Callable[[str], bool]) -> list[dict[str, Any]]:
    """Return the parameters that any row has, as `parameters` does. `is_log`: whether a key has a logarithmic axis."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    labels = shorten_keys(keys)
    return [_describe(key, labels[key], [row[key] for row in rows if key in row], log=is_log(key)) for key in keys]


def _describe(key: str, label: str, values: list[Any], *, log: bool) -> dict[str, Any]:
    is_number = all(_is_number(value) for value in values)
    names = [] if is_number else sorted({category(value) for value in values})
    log = is_number and log and all(value > 0 for value in values)
    return {"key": key, "label": label, "kind": "number" if is_number else "category", "log": log, "values": names}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST


def category(value: Any) -> str:
    """Return a parameter's value that is no number as text."""
    return str(value) if isinstance(value, str | float) else to_json(value, default=str).decode()


def with_categories(values: Mapping[str, Any], params: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a trial's parameters with those of a category as the text that `describe` has of them."""
    texts = {one["key"] for one in params if one["kind"] == "category"}
    return {key: category(value) if key in texts else value for key, value in values.items()}


def _block(tree: Any, *keys: str) -> Mapping[str, Any]:
    for key in keys:
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree if isinstance(tree, Mapping) else {}


def _primitive(key: str, tree: Any) -> str:
    return next(iter(_block(tree, "tune", "space", key)), "")


def analyse(run: RunResults, params: list[dict[str, Any]], *, importance: bool) -> dict[str, Any]:
    """Return how much each parameter matters, or why that is unknown, and the contour of the two most important."""
    rows = [(fit.params, fit.best.value) for fit in run.trials if fit.best and _is_number(fit.best.value)]
    shares, missing = rate(rows, params) if importance else ([], LATER)
    numeric = {one["key"]: one for one in params if one["kind"] == "number"}
    ranked = [share["key"] for share in shares if share["key"] in numeric] or list(numeric)
    surface = contour(rows, [numeric[key] for key in ranked[:2]]) if len(ranked) >= 2 else None
    return {"importance": shares, "importance_missing": missing, "contour": surface}


def rungs(run: RunResults, tree: Any) -> list[dict[str, Any]]:
    """Return the numbers of epochs at which a scheduler decided: {epochs, reached, stopped, best}.

    `reached`: the trials with so many epochs; `stopped`: those that ended there by the scheduler; `best`: the best
    value at that epoch.
    """
    stopped = [
        f.epochs for f in run.trials if f.record and f.record.state == "stopped" and f.record.reason not in _NO_RUNG
    ]
    levels = sorted({*stopped, *_milestones(_block(tree, "tune", "scheduler", "asha"), run.record.epochs)})
    rows = []
    for epochs in levels:
        at = [line for fit in run.trials for line in fit.history if line["epoch"] == epochs - 1]
        values = [(line["metrics"].get(run.record.metric), line["metrics"].get(run.record.metric)) for line in at]
        reached = sum(fit.epochs >= epochs for fit in run.trials)
        best = best_of(values, run.record.mode)
        rows.append({"epochs": epochs, "reached": reached, "stopped": stopped.count(epochs), "best": best})
    return rows


def _milestones(asha: Mapping[str, Any], target: int | None) -> list[int]:
    """Return ASHA's rungs of its first bracket, as Ray counts them."""
    grace, factor, most = asha.get("grace_period", 1), asha.get("reduction_factor", 4), asha.get("max_t") or target
    if not asha or not all(_is_number(number) for number in (grace, factor, most)) or factor <= 1 or grace < 1:
        return []
    count = int(math.log(most / grace) / math.log(factor) + 1) if most >= grace else 0
    return [int(grace * factor**number) for number in range(min(count, 64)) if grace * factor**number <= most]
