"""Rows of CSV and Parquet files: any range of them as a batch of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet as pq
import torch

from trainer_app.errors import InputError, NotFoundError
from trainer_app.formatting import one_line
from trainer_app.storage import open_store, split_uri
from trainer_app.storage_uri import is_s3_uri

SUFFIXES: Final = (".csv", ".parquet")
_FOOTER: Final = 1 << 20  # bytes at a Parquet file's end that have its footer, almost always


@dataclass(frozen=True)
class RowFile:
    """A file of rows: its folder's URI, its key there, and what changes with its content."""

    folder: str
    key: str
    version: str

    @property
    def uri(self) -> str:
        """The path or URI, for messages."""
        return open_store(self.folder).child(self.key).uri


def list_files(uri: str) -> list[RowFile]:
    """Return a file, or all CSV and Parquet files below a folder by name.

    Args:
        uri: a path or an S3 URI.

    Raises:
        NotFoundError: there is nothing. InputError: a file of another kind.
    """
    named = uri.partition("?")[0].endswith(SUFFIXES)
    if named:
        folder, key = split_uri(uri)
        store = open_store(folder)
        if (version := store.tag(key)) is not None:
            return [RowFile(store.uri, key, version)]
    elif Path(uri.removeprefix("file://")).expanduser().is_file():
        raise InputError(f"--data {uri} is not a file *.csv or *.parquet, or a folder of them")
    store = open_store(uri)  # other programs name a folder of Parquet files rows.parquet too
    entries = [entry for entry in store.list() if entry.key.endswith(SUFFIXES)]
    if not entries and named:
        raise NotFoundError(f"--data {uri}: there is no such file")
    if not entries:
        raise NotFoundError(f"--data {uri}: no file *.csv or *.parquet is there")
    return [RowFile(store.uri, entry.key, f"{entry.size}-{entry.modified}") for entry in entries]


def count_rows(file: RowFile, cache: Path) -> int:
    """Return how many rows a file has; of a Parquet file in S3 only the end is read.

    Args:
        cache: a folder for local copies.

    Raises:
        InputError: it can't be read.
    """
    if file.key.endswith(".parquet") and is_s3_uri(file.folder):
        store = open_store(file.folder)
        folder = file.key.rpartition("/")[0]
        size = next(entry.size for entry in store.list(folder) if entry.key == file.key)
        tail = store.get(file.key, start=max(0, size - _FOOTER))
        with suppress(pa.ArrowException):  # a footer of more than _FOOTER
            return int(pq.read_metadata(pa.BufferReader(tail)).num_rows)
    return len(Rows(file, cache))


class Rows:
    """The rows of one file, read from a local copy as Parquet.

    Args:
        cache: a folder for it.

    Raises:
        InputError: the file can't be read.
    """

    def __init__(self, file: RowFile, cache: Path) -> None:
        try:
            self._file = pq.ParquetFile(_local_parquet(file, cache))
        except (pa.ArrowException, UnicodeError) as error:
            raise InputError(f"{file.uri} can't be read: {one_line(error)[:300]}") from error
        self._uri = file.uri
        groups = range(self._file.num_row_groups)
        sizes = [self._file.metadata.row_group(index).num_rows for index in groups]
        self._starts = [0, *accumulate(sizes)]
        self.names: list[str] = self._file.schema_arrow.names
        if twice := [name for name in self.names if self.names.count(name) > 1]:
            raise InputError(f"{file.uri} has two columns {twice[0]}: give one of them another name")
        self._read = lru_cache(maxsize=1)(self._file.read_row_group)  # one group may have many parts' rows

    def __len__(self) -> int:
        return self._starts[-1]

    def read(self, start: int, stop: int) -> pa.Table:
        """Return the rows from `start` to before `stop`."""
        pieces = []
        for index, first in enumerate(self._starts[:-1]):
            last = self._starts[index + 1]
            if first < stop and last > start:
                piece = self._read(index)
                pieces.append(piece.slice(max(start - first, 0), min(stop, last) - max(start, first)))
        return pa.concat_tables(pieces) if pieces else self._file.schema_arrow.empty_table()

    def check_columns(self, names: Sequence[str]) -> None:
        """Raise InputError if the file does not have all of these columns."""
        if missing := [name for name in names if name not in self.names]:
            raise InputError(f"{self._uri} has no column {', '.join(missing)}; it has {', '.join(self.names)}")


def _local_parquet(file: RowFile, cache: Path) -> Path:
    """Return the path of the file, copied if it is in S3, and as Parquet if it is CSV."""
    path = Path(file.folder, file.key)
    if is_s3_uri(file.folder):
        path = cache / f"copy{Path(file.key).suffix}"
        open_store(file.folder).get_file(file.key, path)
    return _as_parquet(path, cache / "rows.parquet") if file.key.endswith(".csv") else path


def _as_parquet(path: Path, target: Path) -> Path:
    """Convert a CSV file, in pieces; its first megabyte says which types its columns have."""
    options = pa.csv.ReadOptions(block_size=1 << 20)
    parse = pa.csv.ParseOptions(newlines_in_values=True)
    with pa.csv.open_csv(path, options, parse) as reader, pq.ParquetWriter(target, reader.schema) as writer:
        for piece in reader:
            writer.write_batch(piece)
    return target


def to_batch(table: pa.Table, columns: Sequence[str]) -> Any:
    """Return rows as a batch for a module.

    Args:
        table: the rows.
        columns: those that go side by side into one tensor [rows, n]; none: all columns, each by its name.

    Returns:
        the tensor, or {column: tensor [rows] or [rows, ...] of a column of lists, or a list of Python's values}.

    Raises:
        InputError: a column of `columns` is no number; a number is missing; or lists of a column differ in length.
    """
    if not columns:
        return {name: _to_tensor(table[name], name) for name in table.column_names}
    tensors = [_to_numbers(table[name], name) for name in columns]
    if len(tensors) == 1 and tensors[0].ndim > 1:
        return tensors[0]
    return torch.cat([one.to(torch.get_default_dtype()).reshape(len(table), -1) for one in tensors], dim=1)


def _to_numbers(column: pa.ChunkedArray, name: str) -> torch.Tensor:
    values = _to_tensor(column, name)
    if not isinstance(values, torch.Tensor):
        raise InputError(f"column {name} has no numbers ({column.type}): leave it out of --columns")
    return values


def _to_tensor(column: pa.ChunkedArray, name: str) -> torch.Tensor | list[Any]:
    """Return a column: numbers, and lists of them, as a tensor; floating-point ones of torch's default type."""
    array = column.combine_chunks()
    shape = [len(array)]
    while pa.types.is_list(array.type) or pa.types.is_large_list(array.type) or pa.types.is_fixed_size_list(array.type):
        inner = array.flatten()
        if array.null_count or len(inner) % max(len(array), 1) or not _equally_long(array):
            raise InputError(f"the lists of column {name} differ in length: a batch needs them alike")
        shape.append(len(inner) // max(len(array), 1))
        array = inner
    kind = array.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        return list(column.to_pylist())
    if array.null_count:
        raise InputError(f"column {name} has no value in {array.null_count} rows: fill them, or leave the column out")
    values = torch.from_numpy(np.array(array.to_numpy(zero_copy_only=False)))
    return (values.to(torch.get_default_dtype()) if values.is_floating_point() else values).reshape(shape)


def _equally_long(array: Any) -> bool:
    lengths = pa.compute.list_value_length(array)
    return len(lengths) == 0 or pa.compute.min(lengths).as_py() == pa.compute.max(lengths).as_py()
