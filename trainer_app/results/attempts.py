"""The starts of one fit, as its metrics and the times of its objects tell them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from trainer_app.records import AttemptRecord

_NUMBER = re.compile(r"a(\d{4,12})\.json")
_END = re.compile(r"attempts/a(\d{4,12})\.end\.json")


@dataclass(frozen=True)
class FitAttempt:
    """One start of a fit; times are unix seconds, None if it came to no epoch.

    `started`: its worker began; `trained`: its first epoch began; `last`: its last one ended. `epochs`: their indexes.
    `commits`: when one began and how many seconds it took, but for that after its last epoch. `end`: why it ended, if
    it was tried again under the same driver.
    """

    number: int
    started: float | None = None
    trained: float | None = None
    last: float | None = None
    epochs: list[int] = field(default_factory=list)
    commits: list[tuple[float, float]] = field(default_factory=list)
    end: AttemptRecord | None = None


def parse_end_key(key: str) -> int:
    """Return the attempt that the record with this key in a fit's folder says the end of; 0 for any other key."""
    match = _END.fullmatch(key)
    return int(match[1]) if match else 0


def summarize_attempts(
    lines: Iterable[tuple[int, Mapping[str, Any]]], starts: Mapping[str, float], ends: Mapping[int, AttemptRecord]
) -> list[FitAttempt]:
    """Return a fit's attempts by number.

    Args:
        lines: (attempt, line) in the order in which they were written.
        starts: when each `aNNNN.json` was written, in unix seconds.
        ends: why they ended, if that is recorded.
    """
    began = {int(match[1]): time for name, time in starts.items() if (match := _NUMBER.fullmatch(name))}
    by_attempt: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    spent: dict[int, float] = {}  # seconds until an epoch's end, by epoch, of the attempts so far
    before: dict[int, float] = {}  # seconds that earlier attempts had trained, by attempt
    for attempt, line in lines:
        before.setdefault(attempt, spent.get(line["epoch"] - 1, 0.0))
        by_attempt[attempt].append(line)
        spent[line["epoch"]] = line["elapsed"]
    return [
        replace(
            _summarize(number, began.get(number), by_attempt[number], before.get(number, 0.0)), end=ends.get(number)
        )
        for number in sorted(began.keys() | by_attempt.keys())
    ]


def _summarize(number: int, started: float | None, lines: list[Mapping[str, Any]], before: float) -> FitAttempt:
    if not lines:
        return FitAttempt(number, started)
    trained = lines[0]["time"] - max(0.0, lines[0]["elapsed"] - before)
    if started is not None and started > lines[0]["time"]:
        started = None  # the storage was copied, and its objects have the times of that
    trained = max(trained, started or 0.0)
    commits = [(line["time"], after["committed"]) for line, after in pairwise(lines) if after["committed"]]
    return FitAttempt(number, started, trained, lines[-1]["time"], [line["epoch"] for line in lines], commits)


def repeated_epochs(attempts: Iterable[FitAttempt]) -> list[int]:
    """Return the indexes of the epochs that more than one attempt trained."""
    counts: dict[int, int] = defaultdict(int)
    for attempt in attempts:
        for epoch in set(attempt.epochs):
            counts[epoch] += 1
    return sorted(epoch for epoch, count in counts.items() if count > 1)
