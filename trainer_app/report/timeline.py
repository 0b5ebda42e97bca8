"""The attempts of a run and of its fits as a timeline: what each did when, and why it ended."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import nlargest
from itertools import pairwise, zip_longest
from typing import Any

from trainer_app.records import AttemptRecord
from trainer_app.results import FitResults, RunResults
from trainer_app.results.attempts import FitAttempt, repeated_epochs

LOST = "no record says how it ended; the next attempt resumed it"
PAUSED = "its scheduler paused it (or an older version did not record its end); the next start resumed it"
ENDS = {"succeeded": "done", "finished": "done", "stopped": "stopped", "failed": "failed", "interrupted": "interrupted"}
MOST_COMMITS = 200  # in the timeline of a run; each has a phase of its own

Mark = tuple[str, float | None]  # a phase, and when it began
Stretch = tuple[float, float]
Start = tuple[AttemptRecord | None, FitAttempt]


def attempts_of(fit: FitResults) -> list[dict[str, Any]]:
    """Return a fit's attempts.

    Each is {number, started, trained, last, first_epoch, last_epoch, epochs, again, commits, committing}: `epochs` is
    how many it trained, `again` which of them an earlier attempt had trained too, `commits` the times of the
    checkpoints of it that are kept, `committing` the seconds that all of its commits took.
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
                "committing": round(sum(end - start for start, end in _commits(fit, attempt)), 3),
            }
        )
    return rows


def phases_of_run(run: RunResults) -> list[dict[str, Any]]:
    """Return the stretches of a run's time, as `phases_of` does: what its trials do is `training`."""
    phases: list[dict[str, Any]] = []
    for one, after in zip_longest(run.record.attempts, run.record.attempts[1:]):
        marks = [("queued", one.queued), ("training", one.started), (_gap(one), one.ended if after else None)]
        until = (after.queued or after.started) if after else run.last_sign()
        own = _stretches(one.number, marks, phases[-1]["end"] if phases else 0.0, until)
        phases += _with_reason(own, _words(one.state, one.reason) if one.ended else "")
    return phases


def phases_of(run: RunResults, fit: FitResults) -> list[dict[str, Any]]:
    """Return the stretches of a fit's time: {attempt, phase, start, end, reason}; `reason` of the last of an attempt.

    The phases: queued (until its driver began), waiting (until a worker began), starting, training, committing, ending,
    and until the next attempt stopped (the run had ended) or lost, which is also what was trained since the last epoch.
    `attempt` is 0 of a driver under which no worker began.
    """
    starts, running = _starts(run, fit), run.record.state == "running" and not fit.ended
    most = MOST_COMMITS // max(1, len(run.fits))
    phases: list[dict[str, Any]] = []
    known = fit.record is not None or any(driver for driver, _ in starts[:1])
    at = (fit.record.started if fit.record else None) if known else run.record.created
    for (driver, attempt), after in zip_longest(starts, starts[1:]):
        follows = after is not None and after[0] is not driver
        end = attempt.end or (driver if follows else None)
        until = _begin(*after, same=not follows) if after else _ended(run, fit)
        ending = _ending(attempt, end, last=after is None, running=running, trial=bool(fit.trial))
        marks = [*_beginning(driver, attempt), *ending]
        own = _stretches(attempt.number, [("waiting", at), *marks], at or 0.0, until)
        commits = sorted(nlargest(most, _commits(fit, attempt), key=lambda commit: commit[1] - commit[0]))
        own = [part for phase in own for part in _split(phase, commits)]
        silent = (PAUSED if fit.trial else LOST) if after else _reason(run, fit)
        phases += _with_reason(own, _words(end.state, end.reason) if end else silent)
        at = own[-1]["end"] if own else at
    return phases


def _starts(run: RunResults, fit: FitResults) -> list[Start]:
    """Return a fit's attempts, each with that of the driver under which it was; one of a train run may have none."""
    drivers = [one for one in run.record.attempts if one.started is not None]
    starts: list[Start] = [(_driver_of(drivers, one), one) for one in fit.attempts]
    if fit.trial is None:
        used = {driver.number for driver, _ in starts if driver}
        starts += [(driver, FitAttempt(0)) for driver in drivers if driver.number not in used]
    return sorted(starts, key=lambda start: start[0].number if start[0] else 0)


def _driver_of(drivers: Sequence[AttemptRecord], attempt: FitAttempt) -> AttemptRecord | None:
    """Return the attempt of the driver under which a fit was started; None if that is not recorded."""
    began = attempt.started or attempt.trained or 0.0
    first = drivers[0] if drivers and drivers[0].number == 1 else None
    return next((one for one in reversed(drivers) if (one.started or 0.0) <= began), first)


def _begin(driver: AttemptRecord | None, attempt: FitAttempt, *, same: bool) -> float | None:
    """Return when an attempt's first phase begins; `same`: its driver was there before."""
    began = driver.queued or driver.started if driver and not same else None
    return began or attempt.started or attempt.trained


def _beginning(driver: AttemptRecord | None, attempt: FitAttempt) -> list[Mark]:
    own: list[Mark] = [("queued", driver.queued), ("waiting", driver.started)] if driver else []
    return [*own, ("starting", attempt.started), ("training", attempt.trained)]


def _ending(attempt: FitAttempt, end: AttemptRecord | None, *, last: bool, running: bool, trial: bool) -> list[Mark]:
    """Return what follows an attempt's last epoch, and its end if the next attempt does not follow at once."""
    if last:
        return [] if running else [("ending", attempt.last)]
    if end is None and trial:  # each failure is recorded, a scheduler's pause is not
        return [("waiting", attempt.last)]
    if end is None or end is attempt.end:  # the next one follows under the same driver
        return [("lost", attempt.last or (end.ended if end else None))]
    return [("ending" if end.state == "interrupted" else "lost", attempt.last), (_gap(end), end.ended)]


def _gap(end: AttemptRecord) -> str:
    return "stopped" if end.state in ("interrupted", "failed", "succeeded") else "lost"


def _stretches(number: int, marks: Sequence[Mark], since: float, until: float | None) -> list[dict[str, Any]]:
    """Return one attempt's stretches between the times that are known, in order and never backwards."""
    phases: list[dict[str, Any]] = []
    known = [(phase, time) for phase, time in (*marks, ("", until)) if time is not None]
    for (phase, begin), (_, end) in pairwise(known):
        since = max(begin, since)
        if end > since:
            phases.append({"attempt": number, "phase": phase, "start": since, "end": end, "reason": ""})
    return phases


def _with_reason(phases: list[dict[str, Any]], reason: str) -> list[dict[str, Any]]:
    return [*phases[:-1], {**phases[-1], "reason": reason}] if phases else []


def _commits(fit: FitResults, attempt: FitAttempt) -> list[Stretch]:
    """Return when the commits of an attempt began and ended: the one after its last epoch by its manifest."""
    stretches = [(time, time + seconds) for time, seconds in attempt.commits]
    prefix = f"a{attempt.number:04d}-"
    after = attempt.epochs[-1] + 1 if attempt.epochs else None
    own = [one for one in fit.checkpoints if one.epochs == after and one.name.startswith(prefix) and one.seconds]
    return stretches + [(one.time, one.time + one.seconds) for one in own]


def _split(phase: dict[str, Any], commits: Sequence[Stretch]) -> Iterator[dict[str, Any]]:
    """Yield a phase in parts, of which those that are `committing` are cut out."""
    at = phase["start"]
    for start, end in commits:
        start, end = max(start, at), min(end, phase["end"])
        if end > start:
            if start > at:
                yield {**phase, "start": at, "end": start}
            yield {**phase, "phase": "committing", "start": start, "end": end}
            at = end
    if at < phase["end"]:
        yield {**phase, "start": at}


def _ended(run: RunResults, fit: FitResults) -> float | None:
    """Return when the fit ended, or last gave a sign of life."""
    if fit.trial is None:
        return max(run.record.updated, fit.last_sign())
    return (fit.record.ended if fit.record else None) or fit.last_sign()


def _reason(run: RunResults, fit: FitResults) -> str:
    """Return how the last attempt ended, as the record says."""
    state = run.state_of(fit) if fit.trial else run.record.state
    record = fit.record
    text = (record.reason or record.error if record else run.record.error or run.record.reason) or ""
    return _words(state, text)


def _words(state: str, reason: str) -> str:
    return ": ".join(filter(None, (ENDS.get(state, state), reason)))
