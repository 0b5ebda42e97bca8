"""Tables of texts and labels: TSV, CSV or JSON lines."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from trainer_app.examples.data.files import list_shown
from trainer_app.examples.data.idx import DataError

SUFFIXES: Final = (".tsv", ".csv", ".jsonl")
VALIDATION: Final = ("dev", "val", "valid", "validation")
COLA: Final = ("source", "label", "mark", "sentence")  # its tables have no header


@dataclass(frozen=True)
class Text:
    """One line of a table; `place` says where, for messages."""

    text: str
    label: str
    place: str


def read_splits(path: Path, *, text: str, label: str) -> tuple[list[Text], list[Text] | None]:
    """Read the texts to train on, and those for validation if the source has some apart.

    Args:
        path: a table, or a folder of them.
        text, label: names of the columns.

    Raises:
        DataError: there is no such table, or a line of it is not one.
    """
    train, val = _find_tables(path)
    tables = [list(read_table(table, text=text, label=label)) if table else None for table in (train, val)]
    for table, rows in zip((train, val), tables, strict=True):
        if rows is not None and len(rows) < (2 if val is None else 1):
            raise DataError(f"{table}: {len(rows)} texts are too few to train and validate on")
    return tables[0] or [], tables[1]


def read_table(path: Path, *, text: str, label: str) -> Iterator[Text]:
    """Yield the lines of a table.

    Args:
        path: .tsv, .csv or .jsonl.
        text, label: names of the columns.

    Raises:
        DataError: it can't be read, or a line lacks its text or label.
    """
    number = 0
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            for number, row in _read_rows(path, stream):
                _check_row(f"{path}:{number}", row, (text, label))
                sent = str(row[text]).encode(errors="replace").decode()  # JSON may hold half of an emoji
                yield Text(sent, str(row[label]), f"{path}:{number}")
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        hint = "; is a quote not closed?" if isinstance(e, csv.Error) else ""
        raise DataError(f"{path}: cannot be read after line {number}: {e}{hint}") from e


def _read_rows(path: Path, lines: Iterable[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield (line, row) of a table."""
    if path.suffix == ".jsonl":
        yield from ((number, _parse_line(path, number, line)) for number, line in enumerate(lines, 1) if line.strip())
        return
    tabs = path.suffix == ".tsv"
    # strict: a quote that nothing closes would else take all lines after it into one text
    reader = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE) if tabs else csv.reader(lines, strict=True)
    header: tuple[str, ...] | None = None
    for row in filter(None, reader):
        if header is None:
            header = COLA if len(row) == 4 and row[1] in ("0", "1") else tuple(row)
            if header is not COLA:
                continue
        if any(row[len(header) :]):
            hint = "a text can't hold a tab" if tabs else "put a text that holds a comma in quotes"
            columns = ", ".join(header)
            raise DataError(f"{path}:{reader.line_num}: {len(row)} values, the columns are {columns}; {hint}")
        yield reader.line_num, dict(zip(header, row, strict=False))


def _check_row(place: str, row: Mapping[str, Any], names: Iterable[str]) -> None:
    """Raise DataError if a column is missing, or no text or number."""
    missing = [name for name in names if row.get(name) in (None, "")]
    if missing:
        raise DataError(f"{place}: there is no {' and no '.join(missing)}; columns: {', '.join(map(str, row))}")
    for name in names:
        if isinstance(row[name], list | dict):
            raise DataError(f"{place}: {name} is a {type(row[name]).__name__}; a string or a number is needed")


def _parse_line(path: Path, number: int, line: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as e:
        raise DataError(f"{path}:{number}: not JSON: {e}") from e
    if not isinstance(row, dict):
        raise DataError(f"{path}:{number}: a line must be a JSON object")
    return row


def _find_tables(path: Path) -> tuple[Path, Path | None]:
    if path.is_file():
        if path.suffix not in SUFFIXES:
            raise DataError(f"{path}: a table's name ends in {', '.join(SUFFIXES)}")
        return path, None
    tables = [file for file in list_shown(path) if file.suffix in SUFFIXES]
    val = next((table for table in tables if table.stem in VALIDATION), None)
    train = next((table for table in tables if table.stem == "train"), None)
    if train is None and len(tables) == 1:
        train, val = tables[0], None
    if train is None:
        names = ", ".join(table.name for table in tables[:5]) or "no table"
        raise DataError(f"{path}: holds {names}; train.tsv, train.csv or train.jsonl is needed")
    return train, val
