"""Numbers, durations, metrics and errors as text: short, and the same on every screen."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from trainer_app.errors import TrainerError

# A terminal's commands: CSI, then OSC and other strings up to their end, then two or three characters.
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])(?:[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c))?"
    r"|\x1b[ -/]*[0-~]?"
)
_CONTROL_IN_LINE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_CONTROL = re.compile(rf"\s+|{_CONTROL_IN_LINE.pattern}+")


def one_line(value: Any) -> str:
    """Return a text without line breaks, terminal escapes and control characters: nothing moves the cursor."""
    return _CONTROL.sub(" ", _without_escapes(str(value))).strip()


def clean_lines(value: str) -> str:
    """Return lines as they are, without terminal escapes and control characters."""
    return "\n".join(_CONTROL_IN_LINE.sub(" ", line).rstrip() for line in _without_escapes(value).rstrip().split("\n"))


def _without_escapes(text: str) -> str:
    """Return the text without terminal escapes, and without halves of characters, which no stream takes."""
    return _ESCAPES.sub("", text).encode(errors="replace").decode()


def format_number(value: Any, digits: int = 4) -> str:
    """Return a float with `digits` significant digits, at most 10 characters for 4; other values as they are."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "-" if value is None else one_line(value)
    if isinstance(value, int):
        return str(value)
    return f"{value:.{digits}g}" if math.isfinite(value) else str(value)


def format_duration(value: Any) -> str:
    """Return a duration of `value` seconds in at most 7 characters: 4.2s, 3m20s, 2h05m, 4d07h."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return "-"
    if value < 59.95:  # which would print as 60.0s
        return f"{value:.1f}s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02d}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours < 24 else f"{hours // 24}d{hours % 24:02d}h"


def format_bytes(size: float) -> str:
    """Return `640 B`, `1.5 MiB`."""
    units = ["B", "KiB", "MiB", "GiB", "TiB"]
    while size >= 1024 and len(units) > 1:
        size, units = size / 1024, units[1:]
    return f"{size:.0f} {units[0]}" if size >= 10 or units[0] == "B" else f"{size:.1f} {units[0]}"


def state_text(state: str, quiet_s: float | None, *, gone: bool = False) -> str:
    """Return `running? (nothing new for 3h05m)` if a running run has written nothing for `quiet_s` seconds.

    Args:
        gone: whether its driver has ended without a record of that.
    """
    if gone:
        return f"{state}? (its process has ended)"
    return state if quiet_s is None else f"{state}? (nothing new for {format_duration(quiet_s)})"


def local_time(unix: float | None) -> str:
    """Return a unix time as local date and time, to the second; "-" if it is none."""
    try:
        return datetime.fromtimestamp(unix).strftime("%Y-%m-%d %H:%M:%S") if unix else "-"
    except (OverflowError, ValueError, OSError):  # inf, nan, the year 10000
        return "-"


def progress(done: int | None, target: int | None, what: str = "") -> str:
    """Return `3/5 epochs`.

    Args:
        done: shown as `-` if None.
        target: None or -1 if there is no end; then only `done` is shown.
        what: the unit, "" for none.
    """
    count = f"{'-' if done is None else done}{f'/{target}' if target and target > 0 else ''}"
    return f"{count} {what}".strip()


def shorten_keys(keys: Iterable[str]) -> dict[str, str]:
    """Return each dotted key's shortest ending that no other of the keys has: model.init_args.lr -> lr."""
    keys = list(dict.fromkeys(keys))
    return {key: _shortest(key, keys) for key in keys}


def _shortest(key: str, keys: list[str]) -> str:
    parts = key.split(".")
    for size in range(1, len(parts)):
        ending = ".".join(parts[-size:])
        if not any(other != key and (other == ending or other.endswith(f".{ending}")) for other in keys):
            return ending
    return key


def format_pairs(values: Mapping[str, Any], *, short: bool = True, digits: int = 4) -> str:
    """Return `lr=0.001 layer_1=64`.

    Args:
        values: by dotted key.
        short: shorten the keys as `shorten_keys` does.
        digits: significant digits of floats.
    """
    names = shorten_keys(values) if short else {key: key for key in values}
    return " ".join(f"{one_line(names[key])}={format_number(value, digits)}" for key, value in values.items())


def sort_metrics(metrics: Mapping[str, Any], first: str | None = None) -> dict[str, Any]:
    """Return metrics in order: `first`, validation, test, training; without single steps and epoch counters."""

    def rank(name: str) -> tuple[bool, bool, bool, str]:
        return (name != first, not name.startswith("val"), not name.startswith("test"), name)

    names = (n for n in metrics if n == first or (not n.endswith("_step") and n not in ("epoch", "step")))
    return {name: metrics[name] for name in sorted(names, key=rank)}


def command(*words: str) -> str:
    """Return a command to copy into a shell."""
    return " ".join(shlex.quote(word) for word in words)


def error_text(error: TrainerError) -> str:
    """Return one line per problem, and what to do next if the error says it."""
    remedy = getattr(error, "remedy", None)
    lines = [f"error: {one_line(line)}" for line in str(error).splitlines() or [type(error).__name__]]
    return "\n".join(lines + ([f"       {one_line(remedy)}"] if remedy else []))
