"""The first and the last event of a run, from its records."""

from __future__ import annotations

from typing import Any

from trainer_app.config import RunConfig
from trainer_app.records import RunFolder
from trainer_app.results.model import RunResults


def start_event(folder: RunFolder, config: RunConfig, *, log: str | None, resumed: bool) -> dict[str, Any]:
    record = folder.record
    return {
        "event": "run",
        "run": record.name,
        "task": record.task,
        "uri": folder.uri,
        "log": log,
        "attempt": record.attempt,
        "resumed": resumed,
        "notes": list(config.notes),
        "epochs": record.epochs,
        "metric": record.metric,
        "mode": record.mode,
    }


def end_event(folder: RunFolder, found: RunResults, seconds: float) -> dict[str, Any]:
    record = folder.record
    return {
        "event": "end",
        "run": record.name,
        "state": record.state,
        "seconds": round(seconds, 1),
        "best": found.summary,
        "error": record.error,
        "uri": folder.uri,
    }
