"""Trials of a sweep that were repeated with other seeds: their mean, and its confidence interval."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any, Final

from trainer_app.records import to_json
from trainer_app.results.model import FitResults, RunResults

SEED: Final = "seed_everything"
# Student's t for 95 %, by degrees of freedom from 1 on; from 30 on the normal distribution's.
_T: Final = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131),
    *(2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045),
)


@dataclass(frozen=True)
class Repeated:
    """A trial and its repeats: `values` are the best ones of each repeat, by seed, without the trial's own.

    `low` and `high` are the ends of the 95 % confidence interval of the mean; None for less than two values.
    """

    trial: str
    value: float | None
    params: dict[str, Any]
    seeds: list[int]
    values: list[float]
    mean: float | None
    low: float | None
    high: float | None


def repeated_trials(run: RunResults) -> list[Repeated]:
    """Return the trials that were repeated, in the order of the first repeats."""
    originals = {to_json(fit.params): fit for fit in reversed(run.trials) if SEED not in fit.params}
    repeats: dict[bytes, list[FitResults]] = {}
    for fit in run.trials:
        if SEED in fit.params:
            key = to_json({name: value for name, value in fit.params.items() if name != SEED})
            repeats.setdefault(key, []).append(fit)
    return [_summarize(originals[key], fits) for key, fits in repeats.items() if key in originals]


def _summarize(original: FitResults, fits: list[FitResults]) -> Repeated:
    known = sorted(
        (int(fit.params[SEED]), fit.best.value) for fit in fits if fit.best and math.isfinite(fit.best.value)
    )
    values = [value for _, value in known]
    own = original.best.value if original.best else None
    mean = fmean(values) if values else None
    low, high = confidence_interval(values) if len(values) > 1 else (None, None)
    return Repeated(str(original.trial), own, original.params, [seed for seed, _ in known], values, mean, low, high)


def confidence_interval(values: list[float]) -> tuple[float, float]:
    """Return the ends of the 95 % interval of the mean of two values or more, by Student's t."""
    degrees = len(values) - 1
    t = _T[degrees - 1] if degrees <= len(_T) else 1.96
    half = t * stdev(values) / math.sqrt(len(values))
    return fmean(values) - half, fmean(values) + half
