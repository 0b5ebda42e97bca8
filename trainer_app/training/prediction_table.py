"""What `predict_step` returns as a table with a row per sample, and many of these as one file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import torch

from trainer_app.errors import TrainerError
from trainer_app.formatting import one_line

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
    tables = [_to_batch_table(output) for output in outputs]
    if any(ROW in table.column_names for table in tables):
        raise TrainerError(f"predict_step returns a column {ROW}, which the output has already: give it another name")
    if len({tuple(table.column_names) for table in tables}) > 1:
        raise TrainerError("predict_step returned other columns for one batch than for another")
    try:
        table = pa.concat_tables(tables, promote_options="permissive") if tables else pa.table({})
    except pa.ArrowException as error:
        raise TrainerError(f"predict_step returned another type for one batch than for another: {error}") from error
    if rows is not None and len(table) != rows:
        raise TrainerError(f"predict_step returned {len(table)} predictions for {rows} rows; it must return one a row")
    return table


def _to_batch_table(output: Any) -> pa.Table:
    columns = _to_columns(output)
    if len({len(column) for column in columns.values()}) > 1:
        lengths = ", ".join(f"{name} {len(column)}" for name, column in columns.items())
        raise TrainerError(f"predict_step returned columns of different lengths ({lengths}); each needs an entry a row")
    return pa.table(columns)


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
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        why = " ".join(str(error).split())[:200]
        raise TrainerError(f"predict_step: {name} can't be a column: {why}") from error


def _to_arrow(value: Any, name: str) -> pa.Array:
    if isinstance(value, list) and any(isinstance(row, torch.Tensor) for row in value):
        same = len({row.shape if isinstance(row, torch.Tensor) else None for row in value}) == 1
        value = torch.stack(value) if same else [getattr(row, "tolist", lambda row=row: row)() for row in value]
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().resolve_conj().resolve_neg()
        value = (value.float() if value.dtype is torch.bfloat16 else value).numpy()
    if not isinstance(value, list | np.ndarray) or (isinstance(value, np.ndarray) and value.ndim == 0):
        raise TrainerError(f"predict_step: {name} is {type(value).__name__}, not a tensor or list with an entry a row")
    if isinstance(value, list):
        return pa.array(value)
    array = pa.array(np.ascontiguousarray(value).reshape(-1))
    for size in reversed(value.shape[1:]):
        array = pa.FixedSizeListArray.from_arrays(array, size)
    return array


def check_kind(table: pa.Table, kind: str) -> None:
    """Raise TrainerError if a file of this kind can't hold a part: it is said before the other parts are predicted."""
    if kind == ".csv":
        with _plain_failures(kind):
            pa.csv.write_csv(_flatten(table.slice(0, 1)), pa.BufferOutputStream())


@contextmanager
def _plain_failures(kind: str) -> Iterator[None]:
    try:
        yield
    except pa.ArrowException as error:
        raise TrainerError(f"a {kind} file can't have these predictions: {one_line(error)[:200]}") from error


def write_file(parts: Sequence[Path], path: Path, kind: str) -> int:
    """Write Parquet files, one after the other, into one with the number of each row; return how many rows.

    Args:
        path: of the file.
        kind: ".parquet" or ".csv", which has a column for each entry of a list.

    Raises:
        TrainerError: they have not all the same columns, or CSV has not what is in one.
    """
    rows, writer, schema = 0, None, _common_schema([pq.read_schema(part) for part in parts])
    try:
        with _plain_failures(kind):
            for part in parts:
                table = pq.read_table(part).cast(schema)
                table = table.add_column(0, ROW, pa.array(np.arange(rows, rows + len(table))))
                table = table if kind == ".parquet" else _flatten(table)
                writer = writer or (pq.ParquetWriter if kind == ".parquet" else pa.csv.CSVWriter)(path, table.schema)
                writer.write_table(table)
                rows += len(table)
    finally:
        if writer is not None:
            writer.close()
    return rows


def _common_schema(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """Return the schema that all parts fit: one may have integers, or no value, where another has fractions."""
    if any(schema.names != schemas[0].names for schema in schemas):
        raise TrainerError("predict_step returned other columns for some rows than for others")
    try:
        return pa.unify_schemas(schemas, promote_options="permissive")
    except pa.ArrowException as error:
        raise TrainerError(f"a column has another type for some rows than for others: {one_line(error)}") from error


def _flatten(table: pa.Table) -> pa.Table:
    """Return a table whose columns of lists are columns of their own, name_0, name_1."""
    columns = [pair for name in table.column_names for pair in _flat_columns(name, table[name].combine_chunks())]
    if twice := sorted({name for name, _ in columns if [other for other, _ in columns].count(name) > 1}):
        raise TrainerError(f"two columns of the CSV file would be named {twice[0]}: write a .parquet file")
    return pa.table(dict(columns))


def _flat_columns(name: str, array: pa.Array) -> Iterator[tuple[str, pa.Array]]:
    if pa.types.is_nested(array.type) and not pa.types.is_fixed_size_list(array.type):
        what = "lists of any length" if pa.types.is_list(array.type) else "mappings"
        raise TrainerError(f"column {name} has {what}, which CSV has not: write a .parquet file")
    if not pa.types.is_fixed_size_list(array.type):
        yield name, array
        return
    size, entries = array.type.list_size, array.flatten()
    for at in range(size):
        yield from _flat_columns(f"{name}_{at}", entries[at::size])
