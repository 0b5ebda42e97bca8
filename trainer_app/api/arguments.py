"""What a caller in Python passes, as the command line's words."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from trainer_app.errors import InputError

Item = str | Path
Values = Mapping[str, Any]
_PLAIN: Final = "numbers, strings, True, False, None, and lists and mappings of them"


def to_items(files: Sequence[Item], overrides: Values | None) -> list[str]:
    """Return run files and overrides as words. Raises InputError if one is neither."""
    words = [_to_word(file) for file in files]
    if not isinstance(overrides, Mapping | None):
        raise InputError(f"overrides: a mapping of dotted keys to values is needed, not {overrides!r}")
    for key, value in (overrides or {}).items():
        if not isinstance(key, str) or not key or set(key) & set("=/\\"):
            raise InputError(f"overrides: {key!r} is not a dotted key, for example trainer.max_epochs")
        words.append(f"{key}={_to_flow(key, value)}")
    return words


def to_list(value: Item | Sequence[Item]) -> list[str]:
    """Return the strings of a list; one alone is a list of one."""
    return [str(one) for one in ([value] if isinstance(value, str | Path) else value)]


def _to_word(file: Any) -> str:
    if not isinstance(file, str | os.PathLike):
        raise InputError(f"{file!r} is neither a run file's path nor KEY=VALUE: name each by itself")
    # A Path is a file whatever characters it has, and no file is an option.
    is_file, word = not isinstance(file, str) or file.startswith("-"), os.fspath(file)
    return f"./{word}" if is_file and not word.startswith("/") else word


def _to_flow(key: str, value: Any) -> str:
    """Return a value as YAML on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(name)}: {_to_flow(key, item)}" for name, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_to_flow(key, item) for item in value)}]"
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else f"{'-' if value < 0 else ''}.inf"
    if isinstance(value, str | int | float | None):
        return json.dumps(value)
    if isinstance(value, os.PathLike):
        return json.dumps(os.fspath(value))
    if hasattr(value, "tolist"):  # a number or an array of numpy, a tensor
        return _to_flow(key, value.tolist())
    raise InputError(
        f"overrides: {key}: a value of type {type(value).__name__} can't be in a run file; allowed: {_PLAIN}"
    )
