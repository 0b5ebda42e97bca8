"""The first and the last event of a run, from its records."""

from __future__ import annotations

from typing import Any

from trainer_app.config import RunConfig
from trainer_app.records import RunFolder
from trainer_app.results.model import RunResults


def start_event(folder: RunFolder, config: RunConfig, *, log: str | None, resumed: bool) -> dict[str, Any]:
    """Return the event `run`, the first of an attempt.

    Args:
        folder: of the run.
        config: the run file, for its notes.
        log: the file that Ray's and Lightning's output goes to, None if there is none.
        resumed: whether an earlier attempt is continued.
    """
    record = folder.record
    return {
        "event": "run",
        "run": record.name,
        "task": record.task,
        "uri": folder.uri,
        "log": log,
        "attempt": record.attempt,
        "resumed": resumed,
        "notes": [*config.notes_of(record.task), *([folder.problem] if folder.problem else [])],
        "epochs": record.epochs,
        "metric": record.metric,
        "mode": record.mode,
    }


def end_event(folder: RunFolder, run: RunResults, seconds: float) -> dict[str, Any]:
    """Return the event `end`, the last of an attempt.

    Args:
        folder: of the run, with its last record.
        run: what was read from storage after the end.
        seconds: that the attempt took.
    """
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
