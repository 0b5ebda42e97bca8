"""Read the lines of `metrics/aNNNN-PPPP.jsonl`: part P of what attempt N of a fit wrote, a line an epoch."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from trainer_app.errors import StorageError
from trainer_app.records.models import EpochLine

_PART = re.compile(r"a(\d{4,})-(\d{4,})\.jsonl")


def merge_metrics(parts: Iterable[tuple[str, bytes]], reject: Callable[[str], None]) -> list[dict[str, Any]]:
    """Return the lines of one fit's parts (key, content) by epoch; a later part's line replaces an earlier one's.

    Args:
        reject: called with what is wrong with a line that is damaged, which is left out.
    """
    return newest_lines(line for _, line in parse_lines(parts, reject))


def newest_lines(lines: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return lines by epoch, of several of one epoch the last."""
    epochs = {line["epoch"]: line for line in lines}
    return [epochs[epoch] for epoch in sorted(epochs)]


def parse_lines(
    parts: Iterable[tuple[str, bytes]], reject: Callable[[str], None]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (attempt, line) of one fit's parts, in the order in which they were written; see `merge_metrics`."""
    for key, data in sorted(parts, key=lambda part: parse_part_key(part[0]) or (0, 0)):
        attempt = (parse_part_key(key) or (0, 0))[0]
        for number, line in enumerate(data.split(b"\n"), 1):
            if line:
                try:
                    yield attempt, EpochLine.from_json(line, f"{key}, line {number},").model_dump()
                except StorageError as error:
                    reject(f"{error}; it is left out")


def parse_part_key(key: str) -> tuple[int, int] | None:
    """Return (attempt, part) of the key of a part of metrics; None for any other key."""
    match = _PART.fullmatch(key.rpartition("/")[2])
    return (int(match[1]), int(match[2])) if match else None
