"""What two mappings of `adopt` share."""

from __future__ import annotations

from typing import Any

from trainer_app.config.draft import Draft, Path
from trainer_app.config.lightning.keys import OTHER_ENVIRONMENTS, OUR_ENVIRONMENTS


def set_scaling(draft: Draft, key: str, value: Any, source: Path, found: str) -> None:
    """`scaling.<key>` from elsewhere, unless the run file's own scaling says otherwise."""
    scaling = draft.tree["scaling"]
    given = scaling.get(key)
    if key in scaling and given is not None:
        if given != value:
            draft.note(source, f"{found} is not used: scaling.{key} is {given}")
        return
    scaling[key] = value
    draft.lines[("scaling", key)] = draft.locate(source)
    draft.note(source, f"{found} becomes scaling.{key}: {str(value).lower() if isinstance(value, bool) else value}")


def keep_environment(draft: Draft, at: Path, path: str | None) -> bool:
    """False where the class is a cluster environment, dropped with a note or refused."""
    name = (path or "").rpartition(".")[2]
    if name in OUR_ENVIRONMENTS:
        draft.note(at, f"{path} is replaced by Ray's environment")
        return False
    if name in OTHER_ENVIRONMENTS:
        draft.report(at, "Ray starts and places the workers, no other environment can", path, "leave it out")
        return False
    return True
