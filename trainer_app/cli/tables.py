"""Tables for users on a terminal, and for grep, awk and sort in a pipe."""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from trainer_app.formatting import one_line, state_text

if TYPE_CHECKING:
    from rich.console import RenderableType

    from trainer_app.results import RunResults, RunSummary

STYLES: Final[Mapping[str, str]] = {
    "running": "cyan",
    "succeeded": "green",
    "finished": "green",
    "stopped": "yellow",
    "interrupted": "yellow",
    "running?": "yellow",
    "failed": "red",
    "damaged": "red",
}


def run_state(run: RunSummary | RunResults) -> str:
    """Return a run's state, with what makes one that is recorded as running doubtful."""
    from trainer_app.run.abandoned import is_abandoned

    state = run.record.state if run.record else "damaged"
    return state_text(state, run.silent_for(time.time()), gone=state == "running" and is_abandoned(run.uri))


def terminal_width() -> int | None:
    """Return the number of characters in a line of the terminal; None for a pipe, which has no limit."""
    if not sys.stdout.isatty():
        return None
    from rich.console import Console

    return Console().width


def show_table(
    headers: Sequence[str], rows: Sequence[Sequence[str]], *, right: Collection[str] = (), narrow: int = 0
) -> None:
    """Print a table on a terminal; in a pipe aligned columns, two spaces apart, with nothing cut.

    Args:
        right: the headers of the columns that are aligned at the right (numbers).
        narrow: on a terminal of fewer characters each row is running text.
    """
    headers, right = [one_line(header) for header in headers], {one_line(header) for header in right}
    if (width := terminal_width()) is not None:
        from rich.console import Console

        Console(highlight=False).print(rich_table(headers, rows, right, stacked=width < narrow))
    else:
        print("\n".join(plain_lines(headers, [[one_line(cell) for cell in row] for row in rows], right)))


def show_facts(facts: Sequence[tuple[str, str]]) -> None:
    """Print a line for each label and text; long texts are not wrapped, so that they can be copied."""
    size = max(len(label) for label, _ in facts) + 2
    for label, text in facts:
        print(f"{label:<{size}}{one_line(text)}")


def plain_lines(headers: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[str]) -> list[str]:
    """Return the header and the rows, padded.

    Args:
        rows: their cells; an empty one becomes "-", so that each line has as many fields.
        right: the headers of the columns that are aligned at the right.
    """
    lines = [list(headers), *([cell or "-" for cell in row] for row in rows)]
    sizes = [max(len(line[column]) for line in lines) for column in range(len(headers))]
    return [
        "  ".join(
            cell.rjust(size) if header in right else cell.ljust(size)
            for header, cell, size in zip(headers, line, sizes, strict=True)
        ).rstrip()
        for line in lines
    ]


def rich_table(
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    right: Collection[str] = (),
    *,
    bold: str | None = None,
    stacked: bool = False,
) -> RenderableType:
    """Return a table for a terminal. Texts that do not fit are folded, never cut.

    Args:
        right: as for `show_table`.
        bold: the first cell of the row that stands out.
        stacked: each row as running text, for a terminal that is too narrow for columns.
    """
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    headers, right = [one_line(header) for header in headers], {one_line(header) for header in right}
    cells = [[one_line(cell) for cell in row] for row in rows]
    if stacked:
        lines = [" ".join(f"{head} {cell}" for head, cell in zip(headers, row, strict=True) if cell) for row in cells]
        return Group(*(Text(line, overflow="fold") for line in lines))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for header in headers:
        table.add_column(Text(header), justify="right" if header in right else "left", overflow="fold")
    for row in cells:
        styled = [Text(cell, style=STYLES.get(cell.partition(" ")[0], "")) for cell in row]
        table.add_row(*styled, style="bold" if row[0] == bold else "")
    return table
