"""The number that a sweep optimizes."""

from __future__ import annotations

from typing import Any

from trainer_app.config import RunConfig, require_tune

# The last report of a trial that stops because a user asked for it: the next attempt resumes it.
STOPPED = {"stopped": True, "epochs": 0, "done": True}


def objective(config: RunConfig, result: dict[str, Any]) -> float | None:
    """Return the sweep's metric; None in an epoch that does not log it. A trial that never does ends with an error."""
    value: float | None = result["metrics"].get(require_tune(config).metric)
    return value
