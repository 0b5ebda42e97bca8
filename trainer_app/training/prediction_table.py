"""What `predict_step` returns as a table with a row per sample, and many of these as one file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import torch

from trainer_app.errors import TrainerError

NAME: Final = "prediction"
ROW: Final = "row"  # the number of the input's row, from 0


def to_table(outputs: Sequence[Any], rows: int | None = None) -> pa.Table:
    """Return the outputs of all batches of a part as a table.

    Args:
        outputs: what `predict_step` returned for each batch.
        rows: how many there have to be; None if that is not known.

    Raises:
        TrainerError: they are no rows, or of another number.
    """
    tables = [pa.table(_to_columns(output)) for output in outputs]
    if any(ROW in table.column_names for table in tables):
        raise TrainerError(f"predict_step returns a column {ROW}, which the output has already: give it another name")
    if len({tuple(table.column_names) for table in tables}) > 1:
        raise TrainerError("predict_step returned other columns for one batch than for another")
    try:
        table = pa.concat_tables(tables, promote_options="default") if tables else pa.table({})
    except pa.ArrowException as error:
        raise TrainerError(f"predict_step returned another type for one batch than for another: {error}") from error
    if rows is not None and len(table) != rows:
        raise TrainerError(f"predict_step returned {len(table)} predictions for {rows} rows; it must return one a row")
    return table


def _to_columns(output: Any) -> dict[str, pa.Array]:
    """Return a batch's output as columns: a mapping has one by each name, a tuple prediction_0, prediction_1."""
    if isinstance(output, Mapping):
        return {str(name): _to_array(value, str(name)) for name, value in output.items()}
    if isinstance(output, tuple):
        return {f"{NAME}_{index}": _to_array(value, f"{NAME}_{index}") for index, value in enumerate(output)}
    return {NAME: _to_array(output, NAME)}


def _to_array(value: Any, name: str) -> pa.Array:
    """Return one column; of a tensor [rows, ...] each row is a list, as long as the others or not."""
    try:
        return _to_arrow(value, name)
    except (pa.ArrowException, TypeError, ValueError) as error:
        why = " ".join(str(error).split())[:200]
        raise TrainerError(f"predict_step: {name} can't be a column: {why}") from error


def _to_arrow(value: Any, name: str) -> pa.Array:
    if isinstance(value, list) and any(isinstance(row, torch.Tensor) for row in value):
        same = len({row.shape if isinstance(row, torch.Tensor) else None for row in value}) == 1
        value = torch.stack(value) if same else [getattr(row, "tolist", lambda row=row: row)() for row in value]
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = (value.float() if value.dtype is torch.bfloat16 else value).numpy()
    if not isinstance(value, list | np.ndarray) or (isinstance(value, np.ndarray) and value.ndim == 0):
        raise TrainerError(f"predict_step: {name} is {type(value).__name__}, not a tensor or list with an entry a row")
    if isinstance(value, list):
        return pa.array(value)
    array = pa.array(np.ascontiguousarray(value).reshape(-1))
    for size in reversed(value.shape[1:]):
        array = pa.FixedSizeListArray.from_arrays(array, size)
    return array


def write_file(parts: Iterator[pa.Table], path: Path, kind: str) -> int:
    """Write tables, one after the other, into one file with the number of each row; return how many rows.

    Args:
        path: of the file.
        kind: ".parquet" or ".csv", which has a column for each entry of a list.

    Raises:
        TrainerError: one has other columns than the first.
    """
    rows, writer, schema = 0, None, None
    try:
        for part in parts:
            numbered = part.add_column(0, ROW, pa.array(np.arange(rows, rows + len(part))))
            table = numbered if kind == ".parquet" else _flatten(numbered)
            if writer is None or schema is None:
                schema = table.schema
                writer = (pq.ParquetWriter if kind == ".parquet" else pa.csv.CSVWriter)(path, schema)
            if table.schema != schema:
                raise TrainerError(f"predictions of rows from {rows} on have other columns than those before")
            writer.write_table(table)
            rows += len(part)
    finally:
        if writer is not None:
            writer.close()
    return rows


def _flatten(table: pa.Table) -> pa.Table:
    """Return a table whose columns of lists are columns of their own, name_0, name_1."""
    columns = [pair for name in table.column_names for pair in _flat_columns(name, table[name].combine_chunks())]
    if twice := sorted({name for name, _ in columns if [other for other, _ in columns].count(name) > 1}):
        raise TrainerError(f"two columns of the CSV file would be named {twice[0]}: write a .parquet file")
    return pa.table(dict(columns))


def _flat_columns(name: str, array: pa.Array) -> Iterator[tuple[str, pa.Array]]:
    if pa.types.is_list(array.type) or pa.types.is_struct(array.type):
        raise TrainerError(f"column {name} has lists of any length, which CSV has not: write a .parquet file")
    if not pa.types.is_fixed_size_list(array.type):
        yield name, array
        return
    size, entries = array.type.list_size, array.flatten()
    for at in range(size):
        yield from _flat_columns(f"{name}_{at}", entries[at::size])
