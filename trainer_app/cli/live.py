"""The live table on a terminal, and the table that stays when the run has ended."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from typing import Final, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from trainer_app.cli.tables import STYLES, rich_table
from trainer_app.formatting import format_duration, format_number, format_pairs, one_line, progress, shorten_keys
from trainer_app.results.tables import NARROW as TRIALS_NARROW
from trainer_app.results.tables import closing_facts, epochs_table, trials_table
from trainer_app.results.view import Event, RunView, TrialRow

_log = logging.getLogger(__name__)
REFRESHES_PER_S: Final = 4
# Above it the closing table shows the best and the failed; `trainer results` has them all.
ALL_TRIALS: Final = 100
CLOSING_EPOCHS: Final = 15
NARROW: Final = 60  # characters; below it there is no room for parameters beside the results


class LiveScreen:
    """A screen that redraws what fits the terminal 4 times a second, for any number of trials, and leaves a table."""

    def __init__(self, view: RunView, out: TextIO) -> None:
        self.view, self._out = view, out
        self._message = ""
        self._lock = threading.RLock()
        self._console = Console(file=out, highlight=False, soft_wrap=False)
        self._fit()
        self._live = Live(
            console=self._console,
            get_renderable=self._render,
            refresh_per_second=REFRESHES_PER_S,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()

    def emit(self, event: Event) -> None:
        with self._lock:
            self.view.apply(event)
        # Outside the lock: printing takes the Live's own, which the refreshing thread holds when it comes for ours.
        if event.get("event") == "run":
            self._above(*(f"note: {note}" for note in self.view.notes))
        elif event.get("event") == "storage":
            self._above(event.get("text", ""))
        elif event.get("event") == "retry":
            self._above(f"retry: {event.get('trial') or self.view.run}: {event.get('reason', '')}")

    def _above(self, *lines: str) -> None:
        """Print lines that stay, above the table."""
        try:
            for line in lines:
                self._console.print(Text(one_line(line), style="yellow"))
        except OSError as e:
            _log.warning("the terminal is gone: %s", e)

    def say(self, text: str) -> None:
        """Show a line under the table from the next refresh on. Takes no lock: signal handlers call it."""
        self._message = text

    def close(self) -> None:
        """Replace the live table by the closing one."""
        try:
            self._live.stop()
            with self._lock:
                if self.view.end:
                    self._fit()
                    self._console.print(*closing_tables(self.view, self._console.width), sep="\n")
                    for line in closing_lines(self.view):
                        self._console.print(line, soft_wrap=True)
        except OSError as e:
            _log.warning("the terminal is gone: %s", e)

    def _fit(self) -> None:
        try:
            self._console.size = os.get_terminal_size(self._out.fileno())
        except OSError as e:  # the terminal is gone: the run continues
            _log.debug("no terminal size: %s", e)

    def _render(self) -> RenderableType:
        with self._lock:
            self._fit()
            width, height = self._console.size
            body = (live_trials if self.view.task == "tune" else live_epochs)(self.view, width, height)
            message = [Text(self._message, style="bold yellow")] if self._message else []
            return Group(_head(self.view), body, _foot(self.view), *message)


def _head(view: RunView) -> Text:
    attempt = f" attempt {view.attempt}" if view.attempt > 1 else ""
    return Text(f"{view.task} {view.run}{attempt}  {view.uri}", style="bold", no_wrap=True, overflow="ellipsis")


def _foot(view: RunView) -> Text:
    parts = [format_duration(view.clock() - view.started)]
    if view.task == "tune" and view.rows:
        parts.append(view.counts_text())
    elif not view.epochs and not view.rows:
        parts.append("starting Ray and loading the code ...")
    if view.retries:
        parts.append(view.retries_text())
    log = f"\nlog {view.log}" if view.log else ""
    return Text("  ".join(parts) + log, style="dim", overflow="fold")


def live_trials(view: RunView, width: int, height: int) -> Group:
    """Return the running trials and the best others, as many as the terminal holds, and how many more there are.

    Args:
        width, height: of the terminal, in characters.
    """
    running = view.running()
    columns = _param_columns(view, running, width, fixed=6 + 8 + 16 + 9 + 7 + 7 + 12)
    lines_each = 1 if columns is not None or width < NARROW else 2
    room = max(3, (height - 9) // lines_each)
    shown = running[: max(1, room - 3)] if len(running) >= room else running
    shown = shown + view.best(max(0, room - len(shown)), ended=True)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for header in ("trial", "state", *(escape(one_line(name)) for name in (columns or {}).values())):
        table.add_column(header, no_wrap=True)
    if columns is None and width >= NARROW:
        table.add_column("parameters", ratio=1)
    best = f"best {escape(one_line(view.metric or 'metric'))}"
    table.add_column(best, justify="right", overflow="fold", min_width=7, max_width=14)
    for header in ("latest", "epoch", "elapsed") if width >= NARROW else ("epoch", "elapsed"):
        table.add_column(header, justify="right", no_wrap=True)
    for row in shown:
        table.add_row(*_live_cells(view, row, columns, wide=width >= NARROW))
    return Group(table, *_more(len(view.rows) - len(shown)))


def _more(hidden: int) -> list[Text]:
    return [Text(f"… {hidden} more", style="dim")] if hidden > 0 else []


def _live_cells(view: RunView, row: TrialRow, columns: dict[str, str] | None, *, wide: bool) -> list[Text]:
    cells = [Text(one_line(row.trial)), Text(row.state, style=STYLES.get(row.state, ""))]
    if columns is not None:
        cells += [Text(format_number(row.params.get(key), 3)) for key in columns]
    elif wide:
        cells.append(Text(format_pairs(row.params, digits=3)))
    elapsed = format_duration(view.elapsed_now(row))
    latest = [Text(format_number(row.latest))] if wide else []
    return [*cells, Text(format_number(row.value)), *latest, Text(progress(row.epochs, view.target)), Text(elapsed)]


def _param_columns(view: RunView, rows: Sequence[TrialRow], width: int, *, fixed: int) -> dict[str, str] | None:
    """Return dotted key -> heading if a column for each parameter fits beside `fixed` characters, else None."""
    keys = list(dict.fromkeys(key for row in (*rows, *view.best(10, ended=True)) for key in row.params))
    names = shorten_keys(keys)
    need = sum(2 + max(len(names[key]), 8) for key in keys)
    return names if keys and fixed + need <= width else None


def live_epochs(view: RunView, width: int, height: int) -> Group:
    """Return the last epochs of a train run with as many metrics as fit, the run's own first.

    Args:
        width, height: of the terminal, in characters.
    """
    shown = sorted(view.epochs)[-max(3, height - 8) :]
    return Group(_epochs(view, shown, width), *_more(len(view.epochs) - len(shown)))


def _epochs(view: RunView, epochs: Sequence[int], width: int) -> RenderableType:
    (headers, rows), _ = epochs_table([view.epochs[epoch] for epoch in epochs], view.metric, view.target, width)
    return rich_table(headers, rows, right=headers)


def closing_tables(view: RunView, width: int) -> list[RenderableType]:
    """Return what stays on the terminal: every trial with why it ended, or the epochs."""
    parts: list[RenderableType] = []
    if view.rows:
        parts += _closing_trials(view, width)
    if view.epochs:
        shown = sorted(view.epochs)[-CLOSING_EPOCHS:]
        if len(view.epochs) > len(shown):
            parts.append(Text(f"the last {len(shown)} of {len(view.epochs)} epochs", style="dim"))
        parts.append(_epochs(view, shown, width))
    return [*parts, Text("")] if parts else []


def _closing_trials(view: RunView, width: int) -> list[RenderableType]:
    rows = list(view.rows.values())
    more: list[RenderableType] = []
    if len(rows) > ALL_TRIALS:
        best = view.best(20, ended=False)
        failed = [row for row in rows if row.state == "failed" and row not in best][:20]
        hidden, rows = len(rows) - len(best) - len(failed), best + failed
        more = [Text(f"… {hidden} more trials: see results", style="dim")]
    best_trial = ((view.end or {}).get("best") or {}).get("trial")
    headers, cells = trials_table(rows, view.metric, view.target, width)
    right = ("epochs", view.metric or "metric", "elapsed")
    return [rich_table(headers, cells, right, bold=best_trial, stacked=width < TRIALS_NARROW), *more]


def closing_lines(view: RunView) -> list[Text]:
    """Return how the run ended, a line a fact; not wrapped, so that a path or a command can be copied."""
    styles = {"error": "red", "end": "bold"}
    facts = closing_facts(view)
    return [Text.assemble((f"{label:<12}", "bold"), (one_line(text), styles.get(label, ""))) for label, text in facts]
