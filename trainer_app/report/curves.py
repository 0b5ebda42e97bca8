"""Curves thinned to what a screen shows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from trainer_app.formatting import sort_metrics

MOST, FEWEST = 600, 60  # points of one curve
ALL: Final = 600_000  # points of all curves of a run, about 5 MB
DIGITS: Final = 6
_COUNTERS: Final = ("epoch", "step")
Point = tuple[int, float]


def metric_names(lines: Iterable[Mapping[str, Any]], first: str | None) -> list[str]:
    """Return the names of all metrics, the run's own first, those of single steps last."""
    names: dict[str, None] = {}
    for line in lines:
        names.update(dict.fromkeys(line["metrics"]))
    by_epoch = list(sort_metrics(names, first))
    return by_epoch + sorted(name for name in names if name not in by_epoch and name not in _COUNTERS)


def points_for(fits: int, metrics: int) -> int:
    """Return how many points a curve of a run with so many fits and metrics may have."""
    return max(FEWEST, min(MOST, ALL // max(1, fits * metrics)))


def curves_of(history: Sequence[Mapping[str, Any]], metrics: Sequence[str], limit: int) -> dict[str, dict[str, Any]]:
    """Return {metric: {epochs, values}} of one fit; `epochs` is null if they are 0, 1, 2, ...

    Args:
        history: the lines of its epochs.
        metrics: the names of the run's metrics.
        limit: how many points a curve may have.
    """
    curves = {}
    for name in metrics:
        points = [(line["epoch"], line["metrics"][name]) for line in history if name in line["metrics"]]
        if points:
            points = thin(points, limit)
            epochs = [epoch for epoch, _ in points]
            values = [_shorten(value) for _, value in points]
            curves[name] = {"epochs": None if epochs == list(range(len(epochs))) else epochs, "values": values}
    return curves


def thin(points: Sequence[Point], limit: int) -> list[Point]:
    """Return at most about `limit` points: the first, the last, and of each stretch the smallest and the largest.

    Of values that are no numbers the first of each stretch is kept.
    """
    if len(points) <= limit:
        return list(points)
    stretches = max(1, limit // 2 - 1)
    kept = {0, len(points) - 1}
    for number in range(stretches):
        indexes = range(number * len(points) // stretches, (number + 1) * len(points) // stretches)
        finite = [index for index in indexes if math.isfinite(points[index][1])]
        if finite:
            kept |= {min(finite, key=lambda i: points[i][1]), max(finite, key=lambda i: points[i][1])}
        is_gap = [index for index in indexes if not math.isfinite(points[index][1])]
        kept |= {index for index in is_gap if index == 0 or math.isfinite(points[index - 1][1])}
    return [points[index] for index in sorted(kept)]


def _shorten(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
