"""What `trainer doctor` finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """The result of one check: a line that `trainer doctor` prints."""

    check: str
    level: Level
    message: str
