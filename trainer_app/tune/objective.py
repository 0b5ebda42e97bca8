"""The number that a sweep optimizes."""

from __future__ import annotations

from typing import Any

from trainer_app.config import RunConfig, require_tune
from trainer_app.errors import TrainerError

# The last report of a trial that stops because a user asked for it: the next attempt resumes it.
STOPPED = {"stopped": True, "epochs": 0, "done": True}


def objective(config: RunConfig, result: dict[str, Any]) -> float | None:
    """Return the sweep's metric, None in an epoch without validation. Raises TrainerError if it is not logged."""
    metrics, metric = result["metrics"], require_tune(config).metric
    if metric in metrics:
        value: float = metrics[metric]
        return value
    every = config.trainer.get("check_val_every_n_epoch") or 1
    if result["epochs"] % every:
        return None
    logged = ", ".join(sorted(metrics)) or "nothing"
    raise TrainerError(f"tune.metric: {metric!r} is not logged by the module; it logs {logged}")
