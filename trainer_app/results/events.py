"""The first and the last event of a run, from its records."""

from __future__ import annotations

from typing import Any

from trainer_app.config import RunConfig
from trainer_app.records import RunFolder
from trainer_app.results.model import RunResults


def start_event(folder: RunFolder, config: RunConfig, *, log: str | None, resumed: bool) -> dict[str, Any]:
    """Return the event `run`, the first of an attempt; `log` is where the output of Ray and Lightning goes."""
    record = folder.record
    return {
        "event": "run",
        "run": record.name,
        "task": record.task,
        "uri": folder.uri,
        "log": log,
        "attempt": record.attempt,
        "resumed": resumed,
        "notes": config.notes_of(record.task),
        "epochs": record.epochs,
        "metric": record.metric,
        "mode": record.mode,
    }


def end_event(folder: RunFolder, run: RunResults, seconds: float) -> dict[str, Any]:
    """Return the event `end`, the last of an attempt, after this many seconds."""
    record = folder.record
    return {
        "event": "end",
        "run": record.name,
        "state": record.state,
        "seconds": round(seconds, 1),
        "best": run.summary,
        "error": record.error,
        "uri": folder.uri,
    }
