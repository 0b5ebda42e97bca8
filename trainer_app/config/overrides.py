"""Merging run files, and dotted keys into them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from trainer_app.config.draft import COMMAND_LINE, DOTTED, Draft, Path
from trainer_app.config.yaml12 import parse
from trainer_app.errors import MISSING

_KEY = re.compile(r"[^=\s.]+(\.[^=\s.]+)*")


def merge(draft: Draft, other: Draft) -> None:
    """Merge a later file into the draft: mappings merge, anything else is replaced.

    If the later file has another class_path, the init_args of the earlier class are dropped.
    """
    draft.tree = _merge(draft, other, draft.tree, other.tree, ())
    draft.problems += other.problems
    draft.notes += other.notes
    draft.broken |= other.broken
    if () not in draft.lines and () in other.lines:
        draft.lines[()] = other.lines[()]


def _merge(draft: Draft, other: Draft, old: dict[Any, Any], new: dict[Any, Any], path: Path) -> dict[Any, Any]:
    result = dict(old)
    if path and "class_path" in new and "class_path" in old and new["class_path"] != old["class_path"]:
        result = {}
        draft.forget_lines(path)
        draft.lines[path] = other.locate(path)
        if old.get("init_args"):
            other.note((*path, "class_path"), f"replaces {old['class_path']} and its init_args")
    lines: dict[Path, dict[Path, Any]] = {}
    for known, at in other.lines.items():
        lines.setdefault(known[: len(path) + 1], {})[known] = at
    for key, value in new.items():
        below = (*path, str(key))
        if below[-1].endswith("+") and path not in DOTTED:
            target, first = _append(result, below[-1], value)
            _move_lines(draft, other, below, (*path, target), first)
            continue
        if isinstance(value, dict) and isinstance(result.get(key), dict) and below[:-1] not in DOTTED:
            result[key] = _merge(draft, other, result[key], value, below)
            continue
        result.pop(f"{key}+", None)
        result[key] = value
        draft.lines.update(lines.get(below, {}))
    return result


def _append(holder: dict[Any, Any], key: str, value: Any) -> tuple[str, int]:
    """Append as jsonargparse does for `callbacks+`: to the list `callbacks`, or to what the defaults have.

    Returns:
        the key that holds the list, and the index of the first item that is new.
    """
    target = key[:-1] if key[:-1] in holder else key
    old = holder.get(target)
    old = old if isinstance(old, list) else [] if old is None else [old]
    holder[target] = [*old, *(value if isinstance(value, list) else [value])]
    return target, len(old)


def _move_lines(draft: Draft, other: Draft, source: Path, target: Path, first: int) -> None:
    """Give a list's items, which were appended from index `first` on, the lines that they have in the later file."""
    draft.lines.setdefault(target, other.locate(source))
    for path, at in other.lines.items():
        if path[: len(source)] == source and len(path) > len(source):
            index, *rest = path[len(source) :]
            if index.isdecimal():
                draft.lines[(*target, str(first + int(index)), *rest)] = at


def apply_overrides(draft: Draft, overrides: Sequence[str]) -> None:
    """Set keys such as `trainer.max_epochs=1`: the value is YAML 1.2; list items by index."""
    for override in overrides:
        key, mark, text = override.partition("=")
        if not mark or not _KEY.fullmatch(key):
            draft.lines[(override,)] = (COMMAND_LINE, None)
            draft.report((override,), "must be a dotted key, = and a value", allowed="for example trainer.max_epochs=1")
            continue
        scratch = Draft()
        value = parse(text, scratch, key)
        if scratch.problems:
            draft.lines[tuple(key.split("."))] = (COMMAND_LINE, None)
            draft.report(tuple(key.split(".")), "the value is not YAML", text, scratch.problems[0].message)
            continue
        set_value(draft, key, value, COMMAND_LINE)


def set_value(draft: Draft, key: str, value: Any, source: str = "") -> None:
    """Set one dotted key, in place, or report why it can't be set.

    Args:
        draft: its tree gets the value, its lines the source, its problems the reason.
        key: dotted; list items by index.
        value: plain value, copied.
        source: the file's name in messages.
    """
    at: Path = ()
    holder: Any = draft.tree
    rest = key.split(".")
    while True:
        step, rest = _step(holder, at, rest)
        if step is None:
            draft.lines[at] = (source, None)
            draft.report((*at, *rest), *_explain_no_key(holder, at, rest))
            return
        at = (*at, str(step))
        if not rest:
            break
        inside = _enter(holder, step, at, rest[0])
        if not inside and source:  # the key is made for this value
            draft.lines.setdefault(at, (source, None))
        holder = inside
    if str(step).endswith("+") and at[:-1] not in DOTTED:
        at = (*at[:-1], _append(holder, str(step), deepcopy(value))[0])
    else:
        holder[step] = deepcopy(value)
        draft.forget_lines(at)
    draft.lines[at] = (source, None)


def _step(holder: Any, at: Path, rest: list[str]) -> tuple[Any, list[str]]:
    """Return the next key or index and the rest; (None, rest) if there is none."""
    if isinstance(holder, list):
        if rest[0].isdecimal() and int(rest[0]) < len(holder):
            return int(rest[0]), rest[1:]
        return None, rest
    if not isinstance(holder, dict):
        return None, rest
    for size in range(len(rest), 0, -1):
        if size > 1 and ".".join(rest[:size]) in holder:
            return ".".join(rest[:size]), rest[size:]
    if at in DOTTED:
        return ".".join(rest), []
    if rest[0] not in holder and rest[0].isdecimal() and int(rest[0]) in holder:
        return int(rest[0]), rest[1:]
    return rest[0], rest[1:]


def _enter(holder: Any, step: Any, at: Path, following: str) -> Any:
    """Return the value below; a missing one, or a scheduler's bare name, becomes a mapping."""
    inside = holder[step] if isinstance(holder, list) else holder.get(step)
    if inside is None or (at in (("tune", "scheduler"), ("tune", "searcher")) and inside == following):
        inside = holder[step] = {}
    return inside


def _explain_no_key(holder: Any, at: Path, rest: list[str]) -> tuple[str, Any, str]:
    parent = ".".join(at)
    if isinstance(holder, list):
        size = f"0 to {len(holder) - 1}" if holder else "none, the list is empty"
        return f"{parent} is a list, {rest[0]!r} is not an index of it", MISSING, f"allowed: {size}"
    return f"{parent} is a value, it has no keys", holder, "override the key itself"
