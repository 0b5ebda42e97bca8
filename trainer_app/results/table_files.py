"""A run's epochs as a table for other tools: CSV or Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any, Final

from trainer_app.errors import InputError
from trainer_app.records import to_json
from trainer_app.results import view
from trainer_app.results.model import FitResults, RunResults

FIXED: Final = ("run", "trial", "state", "epoch", "step", "time", "elapsed")
Row = Mapping[str, Any]


def epoch_rows(run: RunResults) -> tuple[list[str], list[Row]]:
    """Return the columns, and a row per epoch; a trial without any has one row, whose `epoch` is None.

    The columns are run, trial, state, epoch (an index), step, time (unix seconds), elapsed (seconds), the parameters by
    dotted key and the metrics by name. A parameter or metric that has the name of a column before it becomes
    `params.NAME` or `metrics.NAME`.
    """
    params = _rename({key: None for fit in run.fits for key in fit.params}, FIXED, "params")
    logged = {name: None for fit in run.fits for line in fit.history for name in line["metrics"]}
    metrics = _rename(logged, [*FIXED, *params.values()], "metrics")
    rows = [row for fit in run.fits for row in _rows_of(run, fit, params, metrics)]
    return [*FIXED, *params.values(), *metrics.values()], rows


def trial_rows(run: RunResults) -> tuple[list[str], list[Row]]:
    """Return the columns, and a row per trial: trial, state, epochs, the metric's best value, elapsed in seconds, why
    it ended, and its parameters by dotted key (`params.KEY` where a column has that name).
    """
    metric = run.record.metric or "metric"
    fixed = ["trial", "state", "epochs", metric, "elapsed", "reason"]
    params = _rename({key: None for fit in run.trials for key in fit.params}, fixed, "params")
    rows: list[Row] = [
        {
            **dict(zip(fixed, (row.trial, row.state, row.epochs, row.value, row.elapsed, row.reason), strict=True)),
            **{params[key]: value for key, value in row.params.items()},
        }
        for row in view.trial_rows(run)
    ]
    return [*fixed, *params.values()], rows


def _rename(names: Mapping[str, None], taken: Sequence[str], prefix: str) -> dict[str, str]:
    renamed: dict[str, str] = {}
    for name in names:
        new = f"{prefix}.{name}" if name in taken else name
        while new != name and (new in names or new in taken):  # there is one of that name too
            new = f"{prefix}.{new}"
        renamed[name] = new
    return renamed


def _rows_of(run: RunResults, fit: FitResults, params: Mapping[str, str], metrics: Mapping[str, str]) -> list[Row]:
    state = run.state_of(fit) if fit.trial else run.record.state
    fixed = {"run": run.record.name, "trial": fit.trial, "state": state}
    fixed |= {params[key]: value for key, value in fit.params.items()}
    return [
        {
            **fixed,
            **{name: line.get(name) for name in ("epoch", "step", "time", "elapsed")},
            **{metrics[name]: value for name, value in line["metrics"].items()},
        }
        for line in fit.history
    ] or ([fixed] if fit.trial else [])


def to_csv(run: RunResults) -> bytes:
    """Return the rows as UTF-8 CSV: an empty cell for None, nan, inf and -inf as Python writes them, lists as JSON."""
    columns, rows = epoch_rows(run)
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _plain(value) for name, value in row.items()} for row in rows)
    return text.getvalue().encode(errors="replace")


def to_parquet(run: RunResults) -> bytes:
    """Return the rows as Parquet; a column whose values are of several types has their text.

    Raises:
        InputError: pyarrow is not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise InputError("--parquet needs pyarrow, which the extra [train] has; --csv needs nothing") from None
    columns, rows = epoch_rows(run)
    data = {
        name.encode(errors="replace").decode(): _one_type([_plain(row.get(name)) for row in rows]) for name in columns
    }
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.table(data), buffer)
    return buffer.getvalue()


def _plain(value: Any) -> Any:
    """Return a cell: numbers, booleans and strings as they are, lists and mappings as JSON."""
    return to_json(value).decode() if isinstance(value, list | dict) else value


def _one_type(cells: Sequence[Any]) -> list[Any]:
    """Return the cells with one type: floats if all are numbers, text if they are mixed or too large for 64 bits."""
    types = {type(cell) for cell in cells if cell is not None}
    if types == {int, float}:
        return [None if cell is None else float(cell) for cell in cells]
    if len(types) > 1 or any(isinstance(cell, int) and not -(2**63) <= cell < 2**63 for cell in cells):
        return [None if cell is None else str(cell) for cell in cells]
    return [cell.encode(errors="replace").decode() if isinstance(cell, str) else cell for cell in cells]
