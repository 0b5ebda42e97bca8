"""What is known of a run from its events: the state that every screen shows."""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from trainer_app.cli.formatting import command, number, one_line, ordered_metrics, pairs, run_uri, seconds
from trainer_app.metric_order import is_better, sort_key

Event = Mapping[str, Any]
ENDED = ("finished", "stopped", "failed", "interrupted")


@dataclass
class Row:
    """One trial. `value` is the best so far of what decides, `latest` that of the last epoch, None if none was told.

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

    @property
    def ending(self) -> str:
        """stopped: ASHA at epoch 1"""
        return f"{self.state}: {self.reason}" if self.reason else self.state


class View:
    """Folds events; every field of an event may be missing.

    Args:
        task: train or tune.
        run: the run's name.
        uri: the storage, or the run in it.
        log: where the noise goes.
        metric, mode: what decides, with min or max; None for a train run without `checkpoint.monitor`.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        *,
        task: str,
        run: str,
        uri: str = "",
        log: str | None = None,
        metric: str | None = None,
        mode: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.task, self.run, self.uri, self.log, self.metric, self.mode = task, run, uri, log, metric, mode
        self.clock = clock
        self.started = clock()
        self.begun = False
        self.attempt = 1
        self.target: int | None = None
        self.num_samples: int | None = None
        self.notes: list[str] = []
        self.rows: dict[str, Row] = {}
        self.epochs: dict[int, dict[str, Any]] = {}
        self.retries = 0
        self.checkpoint: str | None = None
        self.test: dict[str, Any] | None = None
        self.end: dict[str, Any] | None = None

    def apply(self, event: Event) -> None:
        """Take one event in; kinds unknown to this version change nothing."""
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

    def row(self, trial: str) -> Row:
        """The trial's row, made when first heard of."""
        return self.rows.setdefault(trial, Row(trial))

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
        row.reason = one_line(event.get("reason") or "")
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
                row.state = "interrupted"  # its record says otherwise: nobody was left to write it

    def better(self, old: Any, new: Any) -> Any:
        """The better of two values of what decides; the other one where one is missing or NaN."""
        return new if old is None or is_better(new, old, self.mode) else old

    def counts(self) -> Counter[str]:
        """Trials by state; `to come` are those of `num_samples` not yet heard of."""
        counts = Counter(row.state for row in self.rows.values())
        if self.num_samples and self.num_samples > len(self.rows):
            counts["to come"] = self.num_samples - len(self.rows)
        return counts

    def running(self) -> list[Row]:
        """In the order they were started."""
        return [row for row in self.rows.values() if row.state == "running"]

    def best(self, n: int, *, ended: bool) -> list[Row]:
        """The n best trials, best first; those without a value come last, in the order they were started."""
        rows = (row for row in self.rows.values() if not ended or row.state in ENDED)
        return heapq.nsmallest(n, rows, key=lambda row: sort_key(row.value, self.mode))

    def now_elapsed(self, row: Row) -> float | None:
        """Seconds that the trial has taken; goes on while it runs."""
        if row.elapsed is None or row.state != "running":
            return row.elapsed
        return row.elapsed + self.clock() - row.seen

    def counts_text(self) -> str:
        """2 running, 30 stopped, 1 failed, 58 to come"""
        counts = self.counts()
        states = ("running", "pending", "finished", "stopped", "interrupted", "failed", "to come")
        known = [f"{counts[state]} {state}" for state in states if counts[state]]
        return ", ".join(known + [f"{n} {state}" for state, n in counts.items() if state not in states])

    def closing(self) -> list[tuple[str, str]]:
        """The last words as (label, text): how it ended, the best, its test score, where things lie, what to do."""
        end, lines = self.end or {}, []
        counts = f": {self.counts_text()}" if self.rows else ""
        retries = f", {self.retries} retries" if self.retries else ""
        how = f"{end.get('state', 'failed')} in {seconds(end.get('seconds'))}"
        lines.append(("end", f"{self.run} {how}{retries}{counts}"))
        if end.get("error"):
            lines.append(("error", one_line(end["error"])))
        best = end.get("best") or {}
        if best:
            lines.append(("best", self._best_text(best)))
        if self.test is not None:
            lines.append(("test", pairs(ordered_metrics(self.test.get("metrics") or {}), short=False)))
        checkpoint = best.get("checkpoint") or (self.test or {}).get("checkpoint") or self.checkpoint
        if checkpoint:
            lines.append(("checkpoint", str(checkpoint)))
        if self.log:
            lines.append(("log", self.log))
        uri = end.get("uri") or self.uri
        if uri:
            lines.append(("results", self.results_command(uri)))
        return lines

    def results_command(self, uri: str) -> str:
        """What shows this run again, and needs neither Ray nor torch."""
        inside = uri.partition("?")[0].rstrip("/").endswith(f"/{self.run}")
        return command("trainer", "results", uri if inside else run_uri(uri, self.run))

    def _best_text(self, best: Event) -> str:
        trial = f"{best['trial']} " if best.get("trial") else ""
        metric = f"{best.get('metric') or self.metric}={number(best.get('value'))}"
        epoch = f" at epoch {best['epoch'] + 1}" if best.get("epoch") is not None else ""
        params = f": {pairs(best['params'])}" if best.get("params") else ""
        return f"{trial}{metric}{epoch}{params}"
