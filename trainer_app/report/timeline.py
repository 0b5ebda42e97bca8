"""The attempts of a fit as a timeline: what each did when, and why it ended."""

from __future__ import annotations

from itertools import zip_longest
from typing import Any

from trainer_app.results import FitResults, RunResults
from trainer_app.results.attempts import FitAttempt, repeated_epochs

LOST = "no record says how it ended; the next attempt resumed it"
ENDS = {"succeeded": "done", "finished": "done", "stopped": "stopped", "failed": "failed", "interrupted": "interrupted"}


def attempts_of(fit: FitResults) -> list[dict[str, Any]]:
    """Return a fit's attempts: {number, started, trained, last, first_epoch, last_epoch, epochs, again, commits}.

    `epochs` is how many it trained, `again` which of them an earlier attempt had trained too, `commits` the times of
    the checkpoints of it that are kept.
    """
    repeated, seen = set(repeated_epochs(fit.attempts)), set[int]()
    rows = []
    for attempt in fit.attempts:
        again = sorted(repeated & seen & set(attempt.epochs))
        seen |= set(attempt.epochs)
        rows.append(
            {
                "number": attempt.number,
                "started": attempt.started,
                "trained": attempt.trained,
                "last": attempt.last,
                "first_epoch": attempt.epochs[0] if attempt.epochs else None,
                "last_epoch": attempt.epochs[-1] if attempt.epochs else None,
                "epochs": len(attempt.epochs),
                "again": again,
                "commits": [c.time for c in fit.checkpoints if c.name.startswith(f"a{attempt.number:04d}-")],
            }
        )
    return rows


def phases_of(run: RunResults, fit: FitResults) -> list[dict[str, Any]]:
    """Return the stretches of a fit's time: {attempt, phase, start, end, reason}; `reason` of the last of an attempt.

    The phases: waiting (until a worker began), starting, training, ending, and lost (until the next attempt).
    """
    time = run.record.created if fit.trial is None else fit.record.started if fit.record else None
    phases: list[dict[str, Any]] = []
    for attempt, after in zip_longest(fit.attempts, fit.attempts[1:]):
        own = _phases(attempt, time, after.started or after.trained if after else _ended(run, fit), lost=bool(after))
        if own:
            own[-1]["reason"] = LOST if after else _reason(run, fit)
            time = own[-1]["end"]
        phases += own
    return phases


def _phases(attempt: FitAttempt, since: float | None, end: float | None, *, lost: bool) -> list[dict[str, Any]]:
    """Return one attempt's stretches between the times that are known, in order and never backwards."""
    marks = [
        ("waiting", since),
        ("starting", attempt.started),
        ("training", attempt.trained),
        ("lost" if lost else "ending", attempt.last),
    ]
    known = [(phase, max(time, since or 0.0)) for phase, time in marks if time is not None]
    phases = []
    for (phase, start), (_, until) in zip(known, [*known[1:], ("", end)], strict=True):
        if until is not None and until > start:
            phases.append({"attempt": attempt.number, "phase": phase, "start": start, "end": until, "reason": ""})
    return phases


def _ended(run: RunResults, fit: FitResults) -> float | None:
    """Return when the fit ended, or last gave a sign of life."""
    if fit.trial is None:
        return max(run.record.updated, fit.last_sign())
    return (fit.record.ended if fit.record else None) or fit.last_sign()


def _reason(run: RunResults, fit: FitResults) -> str:
    """Return how the last attempt ended, as the record says."""
    state = run.state_of(fit) if fit.trial else run.record.state
    record = fit.record
    text = (record.reason or record.error if record else run.record.error) or ""
    return ": ".join(filter(None, (ENDS.get(state, state), text)))
