"""Rows as a pandas DataFrame where pandas is installed, as a list of dicts where it is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def to_frame(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Any:
    """Return a DataFrame with these columns, or a list of dicts that have all of them, None for what a row lacks."""
    complete = [{name: row.get(name) for name in columns} for row in rows]
    try:
        import pandas
    except ImportError:
        return complete
    return pandas.DataFrame(complete, columns=list(columns))
