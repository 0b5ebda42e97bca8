"""Why each attempt of a run ended, and since when one was queued: in run.json, which only the lease's holder writes."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any, Final

from trainer_app.formatting import one_line
from trainer_app.records import RunFolder
from trainer_app.records.models import TIME_BUDGET
from trainer_app.results import RunResults
from trainer_app.run import cron_dedup, documents, lease, stop
from trainer_app.storage import Store, store_name

LAUNCH: Final = "launch/launch.json"  # written by `trainer submit` and `trainer resume`
KEPT: Final = 100  # attempts
OLDEST: Final = 1e9  # of the times that are believed, in Unix seconds
NOT_RECORDED: Final = "how it ended is not known"


def next_attempt(folder: RunFolder, held: lease.Lease) -> dict[str, Any]:
    """Return the fields of run.json with which a run's next attempt begins; in them is how the one before it ended.

    Args:
        folder: the run's, with the record of the attempt before.
        held: the lease of the attempt that begins.
    """
    record, submission = folder.record, held.submission
    *past, last = record.attempts
    if record.state == "running" or folder.problem:
        last = last.model_copy(update=_lost(record.updated, held.former, folder.problem))
    submitted = submission != record.submission
    return {
        "attempt": record.attempt + 1,
        "queued": queued_since(folder.run_store, submission) if submitted else None,
        "started": time.time(),
        "reason": "",
        "past": [*past, last][-KEPT:],
    }


def _lost(updated: float, former: Mapping[str, Any] | None, problem: str) -> dict[str, Any]:
    """Return how an attempt ended that has recorded no end, by the lease that it left.

    Args:
        updated: when it last wrote run.json.
        former: its lease's document, if it is known.
        problem: what is wrong with its run.json, if anything is.
    """
    expires = float((former or {}).get("expires") or 0.0)
    seen = min(time.time(), max(updated, expires - lease.LEASE_S))
    if problem or not former or not expires:
        return {"state": "lost", "ended": seen, "reason": one_line(problem) or NOT_RECORDED}
    at = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seen))
    return {
        "state": "lost",
        "ended": seen,
        "reason": one_line(f"its driver {former.get('holder')} stopped answering at {at}"),
    }


def queued_since(run_store: Store, submission: str | None, env: Mapping[str, str] | None = None) -> float | None:
    """Return when a submission was made, in Unix seconds: by `trainer submit`, or by a schedule; None if it is unknown.

    Args:
        run_store: the run's folder.
        submission: its id; None for a run that a user starts here.
        env: the environment, which names the schedule; None: this process's.
    """
    if submission is None:
        return None
    launch = documents.read(run_store, LAUNCH) or {}
    if launch.get("submission") == submission:
        created = launch.get("created")
    else:
        created = cron_dedup.creation_time(store_name(run_store), os.environ if env is None else env)
    return float(created) if isinstance(created, int | float) and OLDEST < created <= time.time() else None


def explain_end(folder: RunFolder, run: RunResults) -> str:
    """Return why the attempt that ends now did not end by itself; "" if it did, or if the record's error says it.

    Args:
        folder: the run's, with its last record.
        run: what was read of it from storage.
    """
    if folder.record.state == "interrupted":
        request = stop.read_request(folder.run_store)
        return explain_stop(request) if request else "a signal, such as Ctrl-C's, ended its driver"
    return TIME_BUDGET if any(fit.record and fit.record.reason == TIME_BUDGET for fit in run.trials) else ""


def explain_stop(request: Mapping[str, Any]) -> str:
    """Return who asked a run to stop, in words."""
    by = request.get("by")
    return one_line(f"{by} asked it to stop") if by else "it was asked to stop"
