"""Steps that `adopt` and `strategies` share."""

from __future__ import annotations

from typing import Any

from trainer_app.config.draft import Draft, Path
from trainer_app.config.lightning.keys import OTHER_ENVIRONMENTS, OUR_ENVIRONMENTS


def set_scaling(draft: Draft, key: str, value: Any, source: Path, written: str) -> None:
    """Set a key of `scaling` from a Lightning key, unless the run file's own `scaling` has it.

    Args:
        draft: gets the value, and a note of what became of it.
        key: below `scaling`.
        value: what it becomes there.
        source: Lightning's key.
        written: Lightning's value, as the note shows it.
    """
    scaling = draft.tree["scaling"]
    own = scaling.get(key)
    if own is not None:
        if own != value:
            draft.note(source, f"{written} is not used: scaling.{key} is {own}")
        return
    scaling[key] = value
    draft.lines[("scaling", key)] = draft.locate(source)
    draft.note(source, f"{written} becomes scaling.{key}: {str(value).lower() if isinstance(value, bool) else value}")


def keep_environment(draft: Draft, at: Path, path: str | None) -> bool:
    """Return False if the class is a cluster environment, which is dropped with a note or refused.

    Args:
        draft: gets the note or the problem.
        at: the key of the class.
        path: its class_path; None if it has none.
    """
    name = (path or "").rpartition(".")[2]
    if name in OUR_ENVIRONMENTS:
        draft.note(at, f"{path} is replaced by Ray's environment")
        return False
    if name in OTHER_ENVIRONMENTS:
        draft.report(at, "Ray starts and places the workers, no other environment can", path, "leave it out")
        return False
    return True
