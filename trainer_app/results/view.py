"""The state of a run as its events tell it: what every screen shows."""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from trainer_app.metric_order import is_better, sort_key
from trainer_app.results.model import RunResults

Event = Mapping[str, Any]
ENDED = ("finished", "stopped", "failed", "interrupted")


@dataclass
class TrialRow:
    """One trial. `value` is the metric's best value so far, `latest` that of the last epoch, None without a value.

    `epochs` counts finished epochs; `seen` is when `elapsed` was true, on the view's clock.
    """

    trial: str
    state: str = "pending"
    params: dict[str, Any] = field(default_factory=dict)
    value: Any = None
    latest: Any = None
    epochs: int = 0
    elapsed: float | None = None
    seen: float = 0.0
    reason: str = ""


def trial_rows(run: RunResults) -> list[TrialRow]:
    """Return the trials of a run in storage, with the state that each was in when the run ended."""
    rows = []
    for fit in run.trials:
        row = TrialRow(fit.trial or "", run.state_of(fit), fit.params, epochs=fit.epochs)
        row.value = fit.best.value if fit.best else None
        if record := fit.record:
            row.elapsed = record.ended - record.started if record.started and record.ended else None
            error = record.error if record.error and record.error not in record.reason else ""
            row.reason = ": ".join(filter(None, (record.reason, error)))
        rows.append(row)
    return rows


@dataclass(eq=False, kw_only=True)
class RunView:
    """The state of a run after the events so far; every field of an event may be missing.

    `metric` and `mode` (min or max) are what trials and epochs are compared by; None for a train run without one.
    """

    task: str  # train or tune
    run: str
    uri: str = ""  # the storage, or the run in it
    log: str | None = None  # the file that Ray's and Lightning's output goes to
    metric: str | None = None
    mode: str | None = None
    clock: Callable[[], float] = time.monotonic
    begun: bool = False
    attempt: int = 1
    target: int | None = None
    num_samples: int | None = None
    notes: list[str] = field(default_factory=list)
    rows: dict[str, TrialRow] = field(default_factory=dict)
    epochs: dict[int, dict[str, Any]] = field(default_factory=dict)
    retries: int = 0
    checkpoint: str | None = None
    test: dict[str, Any] | None = None
    end: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        self.started = self.clock()

    def apply(self, event: Event) -> None:
        """Update the state by one event; kinds unknown to this version change nothing."""
        handler = getattr(self, f"_on_{event.get('event')}", None)
        if handler:
            handler(event)

    def _on_run(self, event: Event) -> None:
        self.begun = True
        self.run = event.get("run", self.run)
        self.uri = event.get("uri", self.uri)
        self.log = event.get("log") or self.log
        self.metric, self.mode = event.get("metric") or self.metric, event.get("mode") or self.mode
        self.attempt, self.notes = event.get("attempt", 1), list(event.get("notes") or ())
        self.target, self.num_samples = event.get("epochs"), event.get("num_samples")

    def row(self, trial: str) -> TrialRow:
        """Return the trial's row, a new one for a new trial."""
        return self.rows.setdefault(trial, TrialRow(trial))

    def _on_epoch(self, event: Event) -> None:
        metrics = event.get("metrics") or {}
        if event.get("trial") is None:
            self.epochs[event.get("epoch", len(self.epochs))] = {**event, "metrics": metrics}
            return
        row = self.row(event["trial"])
        row.state = row.state if row.state in ENDED else "running"  # a report may come after the end
        row.epochs = event.get("epoch", row.epochs) + 1
        row.latest = metrics.get(self.metric, row.latest)
        row.value = self.better(row.value, metrics.get(self.metric))
        row.elapsed, row.seen = event.get("elapsed", row.elapsed), self.clock()

    def _on_trial(self, event: Event) -> None:
        row = self.row(event["trial"])
        row.state = event.get("state", row.state)
        row.params = event.get("params") or row.params
        row.epochs = max(row.epochs, event.get("epochs") or 0)
        row.reason = event.get("reason") or ""
        row.value = self.better(row.value, event.get("metric"))
        if event.get("elapsed") is not None:
            row.elapsed = event["elapsed"]
        row.seen = self.clock()

    def _on_checkpoint(self, event: Event) -> None:
        if event.get("trial") is None:
            self.checkpoint = event.get("uri")

    def _on_retry(self, event: Event) -> None:
        self.retries += 1

    def _on_test(self, event: Event) -> None:
        self.test = dict(event)

    def _on_end(self, event: Event) -> None:
        self.end = dict(event)
        for row in self.rows.values():
            if row.state == "running":
                row.state = "interrupted"  # its record says running: the process that would have updated it is gone

    def better(self, old: Any, new: Any) -> Any:
        """Return the better of two values of the metric; the other one if one is missing or NaN."""
        return new if old is None or is_better(new, old, self.mode) else old

    def counts(self) -> Counter[str]:
        """Return the number of trials by state; `to come` are those of `num_samples` without an event yet."""
        counts = Counter(row.state for row in self.rows.values())
        if self.num_samples and self.num_samples > len(self.rows):
            counts["to come"] = self.num_samples - len(self.rows)
        return counts

    def running(self) -> list[TrialRow]:
        """Return the running trials in the order they were started."""
        return [row for row in self.rows.values() if row.state == "running"]

    def best(self, n: int, *, ended: bool) -> list[TrialRow]:
        """Return the n best trials, best first; those without a value come last, in the order they were started."""
        rows = (row for row in self.rows.values() if not ended or row.state in ENDED)
        return heapq.nsmallest(n, rows, key=lambda row: sort_key(row.value, self.mode))

    def elapsed_now(self, row: TrialRow) -> float | None:
        """Return the seconds that the trial has taken, up to now if it is running."""
        if row.elapsed is None or row.state != "running":
            return row.elapsed
        return row.elapsed + self.clock() - row.seen

    def retries_text(self) -> str:
        """Return how many retries there were, as text."""
        return f"{self.retries} {'retry' if self.retries == 1 else 'retries'}"

    def counts_text(self) -> str:
        """Return the trials by state as text: 2 running, 30 stopped, 1 failed, 58 to come."""
        counts = self.counts()
        states = ("running", "pending", "finished", "stopped", "interrupted", "failed", "to come")
        known = [f"{counts[state]} {state}" for state in states if counts[state]]
        return ", ".join(known + [f"{n} {state}" for state, n in counts.items() if state not in states])
