"""The live table on a terminal, and the table that stays when the run has ended."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any, Final, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from trainer_app.cli.formatting import number, one_line, ordered_metrics, pairs, seconds, short_names
from trainer_app.cli.view import Event, Row, View

_log = logging.getLogger(__name__)
REFRESHES_PER_S: Final = 4
# Above it the closing table shows the best and the failed; `trainer results` has them all.
ALL_TRIALS: Final = 100
CLOSING_EPOCHS: Final = 15
NARROW: Final = 60  # characters; below it there is no room for parameters beside the results
_STYLE: Final = {"running": "cyan", "finished": "green", "stopped": "yellow", "interrupted": "yellow", "failed": "red"}


class LiveScreen:
    """Redraws what fits the terminal 4 times a second, however many trials there are; then leaves a table."""

    def __init__(self, view: View, out: TextIO) -> None:
        self.view, self._out = view, out
        self._said = ""
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
        elif event.get("event") == "retry":
            self._above(f"retry: {event.get('trial') or self.view.run}: {event.get('reason', '')}")

    def _above(self, *lines: str) -> None:
        """What has to stay readable scrolls above the table."""
        try:
            for line in lines:
                self._console.print(Text(one_line(line), style="yellow"))
        except OSError as e:
            _log.warning("the terminal is gone: %s", e)

    def say(self, text: str) -> None:
        """Shown under the table from the next refresh on; takes no lock, for signal handlers call it."""
        self._said = text

    def close(self) -> None:
        """Replace the live table by the one that stays."""
        try:
            self._live.stop()
            with self._lock:
                if self.view.end:
                    self._fit()
                    self._console.print(*closing(self.view, self._console.width), sep="\n")
                    for line in last_words(self.view):
                        self._console.print(line, soft_wrap=True)
        except OSError as e:
            _log.warning("the terminal is gone: %s", e)

    def _fit(self) -> None:
        try:
            self._console.size = os.get_terminal_size(self._out.fileno())
        except OSError as e:  # the terminal is gone: the driver goes on
            _log.debug("no terminal size: %s", e)

    def _render(self) -> RenderableType:
        with self._lock:
            self._fit()
            width, height = self._console.size
            body = (
                live_trials(self.view, width, height)
                if self.view.task == "tune"
                else live_epochs(self.view, width, height)
            )
            said = [Text(self._said, style="bold yellow")] if self._said else []
            return Group(_head(self.view), body, _foot(self.view), *said)


def _head(view: View) -> Text:
    attempt = f" attempt {view.attempt}" if view.attempt > 1 else ""
    return Text(f"{view.task} {view.run}{attempt}  {view.uri}", style="bold", no_wrap=True, overflow="ellipsis")


def _foot(view: View) -> Text:
    parts = [seconds(view.clock() - view.started)]
    if view.task == "tune" and view.rows:
        parts.append(view.counts_text())
    elif not view.epochs and not view.rows:
        parts.append("starting Ray and loading the code ...")
    if view.retries:
        parts.append(f"{view.retries} retries")
    log = f"\nlog {view.log}" if view.log else ""
    return Text("  ".join(parts) + log, style="dim", overflow="fold")


def live_trials(view: View, width: int, height: int) -> Group:
    """The running trials and the best of the others: as many rows as the terminal holds, and how many more there are.

    Args:
        width, height: of the terminal, in characters.
    """
    running = view.running()
    columns = _param_columns(view, running, width, fixed=6 + 8 + 16 + 9 + 7 + 7 + 12)
    lines_each = 1 if columns is not None or width < NARROW else 2
    room = max(3, (height - 9) // lines_each)
    shown = running[: max(1, room - 3)] if len(running) >= room else running
    shown = shown + view.best(max(0, room - len(shown)), ended=True)
    table = _table()
    table.add_column("trial", no_wrap=True)
    table.add_column("state", no_wrap=True)
    if columns is not None:
        for name in columns.values():
            table.add_column(escape(name), no_wrap=True)
    elif width >= NARROW:
        table.add_column("parameters", ratio=1)
    _add_result_columns(table, view, latest=width >= NARROW)
    table.add_column("elapsed", justify="right", no_wrap=True)
    for row in shown:
        table.add_row(*_live_cells(view, row, columns, wide=width >= NARROW))
    return Group(table, *_more(len(view.rows) - len(shown)))


def _more(hidden: int) -> list[Text]:
    return [Text(f"… {hidden} more", style="dim")] if hidden > 0 else []


def _live_cells(view: View, row: Row, columns: dict[str, str] | None, *, wide: bool) -> list[Text]:
    cells = [Text(row.trial), Text(row.state, style=_STYLE.get(row.state, ""))]
    if columns is not None:
        cells += [Text(number(row.params.get(key), 3)) for key in columns]
    elif wide:
        cells.append(Text(pairs(row.params, digits=3)))
    elapsed = seconds(view.now_elapsed(row))
    latest = [Text(number(row.latest))] if wide else []
    return [*cells, Text(number(row.value)), *latest, Text(_of(row.epochs, view.target)), Text(elapsed)]


def _param_columns(view: View, rows: Sequence[Row], width: int, *, fixed: int) -> dict[str, str] | None:
    """Dotted key -> heading if a column for each parameter fits beside `fixed` characters, else None."""
    keys = list(dict.fromkeys(key for row in (*rows, *view.best(10, ended=True)) for key in row.params))
    names = short_names(keys)
    need = sum(2 + max(len(names[key]), 8) for key in keys)
    return names if keys and fixed + need <= width else None


def _table(**options: Any) -> Table:
    return Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", **options)


def _add_result_columns(table: Table, view: View, *, latest: bool = False) -> None:
    """The best value of a trial and, where it is still moving, its latest."""
    best = f"best {escape(view.metric or 'metric')}"
    table.add_column(best, justify="right", overflow="fold", min_width=7, max_width=14)
    if latest:
        table.add_column("latest", justify="right", no_wrap=True)
    table.add_column("epoch", justify="right", no_wrap=True)


def _of(epochs: int, target: int | None) -> str:
    return f"{epochs}/{target}" if target and target > 0 else str(epochs)


def live_epochs(view: View, width: int, height: int) -> Group:
    """The last epochs of a train run with as many metrics as fit, the one that decides first."""
    shown = sorted(view.epochs)[-max(3, height - 8) :]
    return Group(epochs_table(view, width, shown), *_more(len(view.epochs) - len(shown)))


def epochs_table(view: View, width: int, epochs: Sequence[int]) -> Table:
    """The given epochs, a row each.

    Args:
        epochs: keys of `view.epochs`, from 0.
    """
    lines = [view.epochs[epoch] for epoch in epochs]
    merged = {name: None for line in lines for name in line["metrics"]}
    names: list[str] = []
    room = width - 24
    for name in ordered_metrics(merged, view.metric):
        room -= max(len(name), 9) + 2
        if names and room < 0:
            break
        names.append(name)
    table = _table()
    table.add_column("epoch", justify="right", no_wrap=True)
    table.add_column("step", justify="right", no_wrap=True)
    for name in names:
        table.add_column(escape(name), justify="right", overflow="fold")
    table.add_column("elapsed", justify="right", no_wrap=True)
    for epoch, line in zip(epochs, lines, strict=True):
        values = [number(line["metrics"].get(name)) for name in names]
        elapsed = seconds(line.get("elapsed"))
        table.add_row(_of(epoch + 1, view.target), number(line.get("step")), *values, elapsed)
    return table


def closing(view: View, width: int) -> list[RenderableType]:
    """The table that stays: every trial with how it ended, or the epochs."""
    parts: list[RenderableType] = []
    if view.rows:
        parts += _closing_trials(view, width)
    if view.epochs:
        shown = sorted(view.epochs)[-CLOSING_EPOCHS:]
        if len(view.epochs) > len(shown):
            parts.append(Text(f"the last {len(shown)} of {len(view.epochs)} epochs", style="dim"))
        parts.append(epochs_table(view, width, shown))
    return [*parts, Text("")] if parts else []


def last_words(view: View) -> list[Text]:
    """Printed unwrapped, so that a path or a command can be copied whole."""
    styles = {"error": "red", "end": "bold"}
    return [Text.assemble((f"{label:<12}", "bold"), (text, styles.get(label, ""))) for label, text in view.closing()]


def _closing_trials(view: View, width: int) -> list[RenderableType]:
    rows: list[Row] = list(view.rows.values())
    hidden = 0
    if len(rows) > ALL_TRIALS:
        best = view.best(20, ended=False)
        failed = [row for row in rows if row.state == "failed" and row not in best][:20]
        hidden, rows = len(rows) - len(best) - len(failed), best + failed
    more = [Text(f"… {hidden} more trials: see results", style="dim")] if hidden else []
    if width < NARROW:
        return [*map(partial(_narrow, view), rows), *more]
    return [_wide(view, rows, width), *more]


def _narrow(view: View, row: Row) -> Text:
    """One trial as running text, where columns would be a few characters wide."""
    return Text.assemble(
        (row.trial, "bold"),
        f" {number(row.value)} epoch {_of(row.epochs, view.target)} ",
        (one_line(row.ending), _STYLE.get(row.state, "")),
        f"\n  {pairs(row.params, digits=3)}",
        overflow="fold",
    )


def _wide(view: View, rows: list[Row], width: int) -> Table:
    table = _table()
    table.add_column("trial", no_wrap=True)
    table.add_column("parameters", ratio=1, overflow="fold")
    _add_result_columns(table, view)
    if width >= 100:
        table.add_column("elapsed", justify="right", no_wrap=True)
    table.add_column("how it ended", ratio=1, overflow="fold")
    best_trial = ((view.end or {}).get("best") or {}).get("trial")
    for row in rows:
        cells = [row.trial, pairs(row.params, digits=3), number(row.value), _of(row.epochs, view.target)]
        cells += [seconds(row.elapsed)] if width >= 100 else []
        ending = Text(one_line(row.ending), style=_STYLE.get(row.state, ""))
        table.add_row(*map(Text, cells), ending, style="bold" if row.trial == best_trial else "")
    return table
