"""The screens of a run: a live table on a terminal, plain lines in a pipe, JSON lines for machines.

A reader that goes away (`trainer train ... | head`) ends the screen, never the run: hours of training are worth more
than their output.
"""

from __future__ import annotations

import logging
import os
import threading
from typing import Any, Protocol, TextIO

from trainer_app.formatting import format_duration, format_number, format_pairs, one_line, sort_metrics
from trainer_app.records import to_json
from trainer_app.results.tables import closing_facts
from trainer_app.results.view import Event, RunView

_log = logging.getLogger(__name__)


class Screen(Protocol):
    """What shows a run's events. `emit` may be called from any thread, `say` from a signal handler."""

    view: RunView

    def emit(self, event: Event) -> None:
        """Show one event."""

    def say(self, text: str) -> None:
        """Show a line beside the events."""

    def close(self) -> None:
        """Show how the run ended; nothing is shown after it."""


def open_screen(view: RunView, out: TextIO, err: TextIO, *, as_json: bool) -> Screen:
    """Return a JSON screen, or a live one on a terminal that can move its cursor, or one of plain lines.

    Args:
        out: gets the events.
        err: gets what is said beside them, except on a live screen.
    """
    if as_json:
        return JsonScreen(view, out, err)
    if out.isatty() and os.environ.get("TERM", "") not in ("", "dumb"):
        from trainer_app.cli.live import LiveScreen

        return LiveScreen(view, out)
    return PlainScreen(view, out, err)


def write_now(stream: TextIO, text: str) -> None:
    """Write past all buffers and locks, for signal handlers."""
    try:
        os.write(stream.fileno(), text.encode())
    except (OSError, ValueError) as e:  # closed or gone: nobody reads it
        _log.debug("not shown: %s: %s", text, e)


class _Lines:
    """A screen that writes lines to a stream, which may lose its reader."""

    def __init__(self, view: RunView, out: TextIO, err: TextIO) -> None:
        self.view, self._out, self._err = view, out, err
        self._lock = threading.RLock()
        self._reader_gone = False

    def say(self, text: str) -> None:
        write_now(self._err, f"{text}\n")

    def _write(self, *lines: str) -> None:
        if self._reader_gone or not lines:
            return
        try:
            self._out.write("".join(f"{line}\n" for line in lines))
            self._out.flush()
        except OSError as e:
            self._reader_gone = True
            _log.warning("the output's reader is gone (%s): the run continues without a screen", e)


class JsonScreen(_Lines):
    """A screen of one JSON object a line for each event. Non-finite numbers are the strings nan, inf and -inf."""

    def emit(self, event: Event) -> None:
        with self._lock:
            self.view.apply(event)
            self._write(to_json(event, default=str).decode())

    def close(self) -> None:
        """Show nothing more: the events are the whole output."""


class PlainScreen(_Lines):
    """A screen of one line per change, without colours or cursor movements, and how the run ended."""

    def __init__(self, view: RunView, out: TextIO, err: TextIO) -> None:
        super().__init__(view, out, err)
        self._shown: dict[Any, Any] = {}

    def emit(self, event: Event) -> None:
        with self._lock:
            self.view.apply(event)
            if self._is_old(event):
                return
            self._write(*(one_line(line) for line in event_lines(event, self.view)))

    def _is_old(self, event: Event) -> bool:
        """Tell whether the event's line was shown: each epoch of a trial comes with an event `trial` too."""
        trial = event.get("trial")
        if event.get("event") == "checkpoint":
            return trial is not None  # in a sweep the best one matters, and the end names it
        if event.get("event") != "trial":
            return False
        row = self.view.row(event["trial"])
        shown, self._shown[trial] = self._shown.get(trial), (row.state, row.reason, dict(row.params))
        return bool(shown == self._shown[trial])

    def close(self) -> None:
        with self._lock:
            if self.view.end:
                self._write(*(f"{label:<10} {one_line(text)}" for label, text in closing_facts(self.view)))


def event_lines(event: Event, view: RunView) -> list[str]:
    """Return an event as lines: notes of a run have their own; the event `end` has none, `close` shows it."""
    who = f"{event['trial']} " if event.get("trial") else ""
    match event.get("event"):
        case "run":
            return _run_lines(event, view)
        case "epoch":
            metrics = format_pairs(sort_metrics(event.get("metrics") or {}, view.metric), short=False)
            return [f"{who}{epoch_text(event, view)} {metrics} {format_duration(event.get('elapsed'))}"]
        case "checkpoint":
            return [f"{who}checkpoint of {epoch_text(event, view)}: {event.get('uri', '')}"]
        case "trial":
            return [_trial_line(event, view)]
        case "retry":
            return [f"{who}retry: {event.get('reason', '')}"]
        case "stop":
            return [f"stop requested by {event.get('by') or 'a user'}: the run ends at the end of the epoch"]
        case "storage":
            return [event.get("text", "")]
        case "test":
            metrics = format_pairs(sort_metrics(event.get("metrics") or {}), short=False)
            return [f"test {metrics}, checkpoint: {event.get('checkpoint', '-')}"]
        case "end":
            return []
        case other:
            return [f"{other} {format_pairs({k: v for k, v in event.items() if k != 'event'})}"]


def epoch_text(event: Event, view: RunView) -> str:
    """Return `epoch 3/5 step 135`: events count epochs from 0, users from 1."""
    if event.get("epoch") is None:
        return "epoch -"
    target = f"/{view.target}" if view.target and view.target > 0 else ""
    step = f" step {event['step']}" if event.get("step") is not None else ""
    return f"epoch {event['epoch'] + 1}{target}{step}"


def _run_lines(event: Event, view: RunView) -> list[str]:
    attempt = f", attempt {view.attempt}" if view.attempt > 1 or event.get("resumed") else ""
    samples = f", {view.num_samples} trials" if view.num_samples else ""
    metric = f", {view.mode or 'best'} {view.metric}" if view.metric else ""
    lines = [f"run {view.run}: {view.task}{samples}{metric}{attempt}, in {view.uri}"]
    return lines + ([f"log {view.log}"] if view.log else []) + [f"note: {note}" for note in view.notes]


def _trial_line(event: Event, view: RunView) -> str:
    row = view.row(event["trial"])
    at = f" at epoch {row.epochs}" if row.epochs else ""
    reason = f": {one_line(row.reason)}" if row.reason else ""
    value = f"best {view.metric or 'metric'}={format_number(row.value)}" if row.value is not None else ""
    elapsed = format_duration(row.elapsed) if row.elapsed else ""
    parts = (f"{row.trial} {row.state}{at}{reason}", value, elapsed, format_pairs(row.params))
    return ", ".join(part for part in parts if part)
