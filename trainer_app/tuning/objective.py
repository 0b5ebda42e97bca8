"""The number that a sweep optimizes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray import tune

from trainer_app.config import RunConfig, require_tune
from trainer_app.errors import StorageUnavailableError

# The last report of a trial that stops because a user asked for it: the next attempt resumes it.
STOPPED = {"stopped": True, "epochs": 0, "done": True}


def objective(config: RunConfig, result: dict[str, Any]) -> float | None:
    """Return the sweep's metric; None in an epoch that does not log it. A trial that never does ends with an error."""
    value: float | None = result["metrics"].get(require_tune(config).metric)
    return value


@contextmanager
def reporting_silence() -> Iterator[None]:
    """Report a storage that did not answer as the trial's result: raised, Tune would count it as a failure."""
    try:
        yield
    except StorageUnavailableError as error:
        tune.report({"unavailable": str(error), "epochs": 0, "done": True})
