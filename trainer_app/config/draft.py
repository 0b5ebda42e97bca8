"""A run file between its text and its types: plain values, the lines of keys, problems and notes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from trainer_app.errors import MISSING, Problem
from trainer_app.redact import is_secret_name, redact_value

Path = tuple[str, ...]
COMMAND_LINE = "command line"
# Below these keys a mapping's keys are dotted keys themselves.
DOTTED: tuple[Path, ...] = (("tune", "space"), ("tune", "scheduler", "pbt", "mutations"))


@dataclass
class Draft:
    """The state of one loading; `lines` has file and 1-based line of each key, None for the command line's."""

    tree: dict[str, Any] = field(default_factory=dict)  # the merged mapping; tune.space's keys are dotted
    lines: dict[Path, tuple[str, int | None]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # one line for each value that was read as something else
    sweep_notes: list[str] = field(default_factory=list)  # those of the notes that are about the sweep
    broken: bool = False  # a part could not be read, and missing keys may be in it

    def locate(self, path: Path) -> tuple[str, int | None]:
        """Return file and line of the key, or of the nearest key above it."""
        for size in range(len(path), -1, -1):
            if path[:size] in self.lines:
                return self.lines[path[:size]]
        return "", None

    def report(self, path: Path, message: str, value: Any = MISSING, allowed: str = "") -> None:
        """Add a problem at the key, with its file and line.

        Args:
            path: the key.
            message: what is wrong.
            value: in the run file, if it helps; secrets in it are hidden.
            allowed: what would be accepted, or what to do.
        """
        file, line = self.locate(path)
        value = value if value is MISSING else redact_value(value, secret=any(map(is_secret_name, path)))
        self.problems.append(Problem(".".join(path), message, value, allowed, file, line))

    def note(self, path: Path, text: str) -> None:
        """Add a note about the key, with its file and line."""
        file, line = self.locate(path)
        self.notes.append(str(Problem(".".join(path), text, file=file, line=line)))

    def forget_lines(self, path: Path) -> None:
        """Drop the lines of this key and of those below it."""
        for known in [p for p in self.lines if p[: len(path)] == path]:
            del self.lines[known]


def suggest_spelling(word: str, allowed: Iterator[str] | list[str] | tuple[str, ...], *, most: int = 16) -> str:
    """Return `allowed: ...; did you mean max_epochs?`.

    Args:
        word: what the user wrote.
        allowed: what may stand there.
        most: a longer list is left out if something in it is similar.
    """
    names = list(allowed)
    near = get_close_matches(word.lower(), names, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]}?" if near else ""
    listing = f"allowed: {', '.join(names)}" if names and (len(names) <= most or not near) else ""
    return "; ".join(part for part in (listing, hint) if part)


def get_value(tree: Any, path: Path, default: Any = None) -> Any:
    """Return a value in nested mappings and lists.

    Args:
        tree: the outermost mapping or list.
        path: keys, and indices of lists as strings.
        default: returned if nothing is there.
    """
    for part in path:
        if isinstance(tree, list) and part.isdecimal() and int(part) < len(tree):
            tree = tree[int(part)]
        elif isinstance(tree, Mapping) and part in tree:
            tree = tree[part]
        else:
            return default
    return tree
