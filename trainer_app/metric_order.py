"""Which of two values of a metric is better: the only place that says it. A missing value and NaN are the worst."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any


def sort_key(value: Any, mode: str | None) -> tuple[bool, float]:
    """Return a key by which the best value sorts first; `mode` is min or max, None is max, as in Ray."""
    if not isinstance(value, int | float) or math.isnan(value):
        return True, 0.0
    return False, float(value if mode == "min" else -value)


def replace_nan(value: float, mode: str | None) -> float:
    """Return `value`, or in place of NaN the worst number: schedulers and searchers compare, and NaN compares false."""
    if not math.isnan(value):
        return value
    return math.inf if mode == "min" else -math.inf


def is_better(new: Any, old: Any, mode: str | None) -> bool:
    """Return whether `new` is strictly better than `old`.

    Args:
        new, old: values of the metric; None and NaN are worse than any number.
        mode: min or max; None is max.
    """
    return sort_key(new, mode) < sort_key(old, mode)


def best_of(candidates: Iterable[tuple[Any, Any]], mode: str | None) -> Any:
    """Return the item of the best pair (value, item), the first of equals; None if no pair has a value."""
    best = min(candidates, key=lambda pair: sort_key(pair[0], mode), default=(None, None))
    return None if sort_key(best[0], mode)[0] else best[1]
