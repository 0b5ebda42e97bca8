"""Tables that are read by people on a terminal and by grep, awk and sort in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence

from trainer_app.cli.formatting import one_line

_STYLE: Mapping[str, str] = {
    "running": "cyan",
    "succeeded": "green",
    "finished": "green",
    "stopped": "yellow",
    "interrupted": "yellow",
    "running?": "yellow",
    "failed": "red",
    "damaged": "red",
}


def on_terminal() -> bool:
    return sys.stdout.isatty()


def width() -> int | None:
    """Characters in a line of the terminal; None where there is no end to it."""
    if not on_terminal():
        return None
    from rich.console import Console

    return Console().width


def show_table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, right: Collection[str] = ()) -> None:
    """A table on a terminal, else aligned columns, two spaces apart, nothing cut.

    Args:
        right: the headers of columns that end at their right edge (numbers).
    """
    cells = [[one_line(cell) for cell in row] for row in rows]
    if on_terminal():
        _rich(headers, cells, right)
    else:
        print("\n".join(plain_lines(headers, cells, right)))


def show_facts(facts: Sequence[tuple[str, str]]) -> None:
    """Label and text, a line each; long texts are left whole, to be copied."""
    size = max(len(label) for label, _ in facts) + 2
    for label, text in facts:
        print(f"{label:<{size}}{one_line(text)}")


def plain_lines(headers: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[str]) -> list[str]:
    """The header and the rows, padded; empty cells are "-", so that each line has as many fields."""
    lines = [list(headers), *([cell or "-" for cell in row] for row in rows)]
    sizes = [max(len(line[column]) for line in lines) for column in range(len(headers))]
    return [
        "  ".join(
            cell.rjust(size) if header in right else cell.ljust(size)
            for header, cell, size in zip(headers, line, sizes, strict=True)
        ).rstrip()
        for line in lines
    ]


def _rich(headers: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for header in headers:
        table.add_column(Text(header), justify="right" if header in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=_STYLE.get(cell.partition(" ")[0], "")) for cell in row))
    Console(highlight=False).print(table)
