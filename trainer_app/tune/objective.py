"""The number that a sweep goes by."""

from __future__ import annotations

from typing import Any

from trainer_app.config import RunConfig, require_tune
from trainer_app.errors import TrainerError


def objective(config: RunConfig, result: dict[str, Any]) -> float:
    """The metric that the sweep goes by.

    Raises:
        TrainerError: the module does not log it; those that it logs are named.
    """
    metrics, metric = result["metrics"], require_tune(config).metric
    if metric not in metrics:
        logged = ", ".join(sorted(metrics)) or "nothing"
        raise TrainerError(f"tune.metric: {metric!r} is not logged by the module; it logs {logged}")
    value: float = metrics[metric]
    return value
