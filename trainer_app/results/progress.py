"""How far a submitted run is, said in its log for its submitter."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from trainer_app import formatting
from trainer_app.progress_line import EVERY_S, Progress
from trainer_app.results.view import ENDED, Event, RunView


class ProgressReporter:
    """Says a line when the run is further than in the last one, at most every EVERY_S seconds, and at the end.

    Args:
        view: what the run's events so far say; it is up to date when `report` is called.
        say: called with each line, from any thread.
        now: the time, in seconds since 1970.
    """

    def __init__(self, view: RunView, say: Callable[[str], None], now: Callable[[], float] = time.time) -> None:
        self.view, self.say, self.now = view, say, now
        self._started, self._done_before = now(), 0  # the second counts what earlier attempts did
        self._working = False
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._due, self._said = 0.0, ""

    def report(self, event: Event) -> None:
        """Say the line now or when it is due, if the event changes what it says."""
        kind = event.get("event")
        if kind == "epoch" and not self._working:  # the first that this attempt does itself
            self._working, self._done_before = True, self._count(event)
        if kind not in ("epoch", "trial", "end"):
            return
        with self._lock:
            wait = 0.0 if kind == "end" else self._due - self.now()
            if self._timer and kind == "end":
                self._timer.cancel()
            elif self._timer:
                return
            if wait <= 0:
                self._say()
                return
            self._timer = threading.Timer(wait, self._say_later)
            self._timer.daemon = True
            self._timer.start()

    def _say_later(self) -> None:
        with self._lock:
            self._timer = None
            self._say()

    def _say(self) -> None:
        line = str(self.progress())
        if line != self._said:
            self.say(line)
        self._said, self._due = line, self.now() + EVERY_S

    def progress(self) -> Progress:
        """Return how far the run is now."""
        view, done = self.view, self._done()
        rows = list(view.rows.values())
        sweep = view.task == "tune"
        total = view.num_samples if sweep else view.target
        value: Any = None
        for new in [row.value for row in rows] if sweep else self._values():
            value = value if new is None else view.better(value, new)
        metric = "" if value is None else f"{view.metric}={formatting.format_number(value)}"
        text = formatting.progress(done, total, "trials" if sweep else "epochs")
        epochs = sum(row.epochs for row in rows) if sweep else done
        return Progress(text, str(epochs), formatting.one_line(metric), self._eta(done, total))

    def _count(self, event: Event) -> int:
        """Return what was done before the event: ended trials, or epochs before this one."""
        return self._done() if self.view.task == "tune" else int(event.get("epoch") or 0)

    def _done(self) -> int:
        if self.view.task == "tune":
            return sum(row.state in ENDED for row in list(self.view.rows.values()))
        return max(list(self.view.epochs), default=-1) + 1

    def _values(self) -> list[Any]:
        return [epoch["metrics"].get(self.view.metric) for epoch in list(self.view.epochs.values())]

    def _eta(self, done: int, total: int | None) -> str:
        """Return when `total` is reached at this attempt's pace; "" if that is unknown."""
        new = done - self._done_before
        if self.view.end or not self._working or new <= 0 or not total or total <= done:
            return ""
        end = self.now() + (self.now() - self._started) / new * (total - done)
        return datetime.fromtimestamp(end, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
