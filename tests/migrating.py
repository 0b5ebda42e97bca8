"""The sections of docs/migrating.md: each has code from before and the run file after it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).parents[1] / "docs/migrating.md"


class Section(NamedTuple):
    before: str
    after: str


def read_sections() -> dict[str, Section]:
    sections = {}
    for part in re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        (before,), (after,) = (re.findall(rf"```{kind}\n(.*?)```", part, re.DOTALL) for kind in ("python", "yaml"))
        sections[part.splitlines()[0]] = Section(before, after)
    return sections


SCRIPT, TORCH, LIGHTNING, TUNER = SECTIONS = tuple(read_sections().values())
