"""The metric over two parameters: between the trials, their values weighted by distance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

CELLS: Final = 24  # on each side
FEWEST: Final = 5  # trials
MOST: Final = 1000


def contour(rows: Sequence[tuple[dict[str, Any], float]], params: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Return {x, y: keys, xs, ys: centres of the cells, values: rows of cells}; None if there are too few trials.

    Args:
        rows: the parameters and the finite best value of each trial.
        params: the two, as `sweep.parameters` describes them; both are numbers.
    """
    whole = [row for row in rows if all(one["key"] in row[0] for one in params)][-MOST:]
    scales = [_Scale(one, whole) for one in params]
    if len(whole) < FEWEST or any(scale.low == scale.high for scale in scales):
        return None
    points = [(*(scale.place(row[0][scale.key]) for scale in scales), row[1]) for row in whole]
    centres = [(number + 0.5) / CELLS for number in range(CELLS)]
    x, y = scales
    values = [[float(f"{_weigh(points, across, up):.5g}") for across in centres] for up in centres]
    return {
        "x": x.key,
        "y": y.key,
        "xs": list(map(x.value, centres)),
        "ys": list(map(y.value, centres)),
        "values": values,
    }


class _Scale:
    """A parameter's values between 0 and 1, as its axis has them."""

    def __init__(self, param: dict[str, Any], rows: Sequence[tuple[dict[str, Any], float]]) -> None:
        self.key, self.log = param["key"], param["log"]
        values = [row[0][self.key] for row in rows]
        self.low, self.high = (self._axis(end(values, default=0.0)) for end in (min, max))

    def _axis(self, value: float) -> float:
        return math.log(value) if self.log and value > 0 else value

    def place(self, value: float) -> float:
        return (self._axis(value) - self.low) / (self.high - self.low)

    def value(self, place: float) -> float:
        at = self.low + place * (self.high - self.low)
        return float(f"{math.exp(at) if self.log else at:.5g}")


def _weigh(points: Sequence[tuple[float, ...]], x: float, y: float) -> float:
    total = weights = 0.0
    for px, py, value in points:
        weight = 1.0 / ((px - x) ** 2 + (py - y) ** 2 + 1e-3) ** 2
        total, weights = total + weight * value, weights + weight
    return total / weights
