"""How far a submitted run is, as a line of its driver's log: the submitter makes annotations of its RayJob from it."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass

EVERY_S = 10.0  # at most one line, and one request to the API server, in so many seconds
ANNOTATION = "trainer/"
_LINE = re.compile(r"progress: (.+?), epoch: (\d+)(?:, metric: (.+?))?(?:, eta: (\S+))?")


@dataclass(frozen=True)
class Progress:
    """How far a run is: `progress: 3/10 epochs, epoch: 3, metric: val_accuracy=0.91, eta: 2026-01-31T08:09:10Z`."""

    progress: str  # of a train run `3/10 epochs`, of a sweep `12/50 trials`
    epoch: str  # finished epochs; of a sweep those of all trials
    metric: str = ""  # the best value so far
    eta: str = ""  # when it ends if it goes on like this, in UTC

    def __str__(self) -> str:
        return ", ".join(f"{key}: {value}" for key, value in asdict(self).items() if value)

    def annotations(self) -> dict[str, str | None]:
        """Return a merge patch of the annotations, which also removes those that have no value now."""
        return {f"{ANNOTATION}{key}": value[:100] or None for key, value in asdict(self).items()}


def parse_line(line: str) -> Progress | None:
    """Return the progress that a line of the log says; None if it is another line."""
    match = _LINE.fullmatch(line.strip())
    return Progress(*(value or "" for value in match.groups())) if match else None
