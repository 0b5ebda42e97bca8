"""Names of runs and trials."""

from __future__ import annotations

import difflib
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from trainer_app.errors import InputError
from trainer_app.run_names import BASE_NAME_MAX, RUN_NAME_MAX, TIME_FORMAT, find_name_problem, fit_name


def check_name(name: str) -> str:
    """Return the name unchanged.

    Raises:
        InputError: no run can have it.
    """
    if problem := find_name_problem(name, RUN_NAME_MAX):
        raise InputError(
            f"name {name!r} can't be a run's name: it {problem}; for example {fit_name(name, RUN_NAME_MAX)!r}"
        )
    return name


def generate_name(base: str | None, *, now: float | None = None) -> str:
    """Return `<base>-<UTC yymmddhhmmss>`, the base changed and cut as a name needs."""
    time_now = datetime.fromtimestamp(time.time() if now is None else now, UTC).strftime(TIME_FORMAT)
    return f"{fit_name(base or 'run', BASE_NAME_MAX)}-{time_now}"


def trial_name(index: int) -> str:
    """Return the name of a trial, such as t00003."""
    return f"t{index:05d}"


def suggest_name(name: str, names: Sequence[str], *, what: str) -> str:
    """Return `did you mean 'mnist-1'?`, or the names that exist if none is similar.

    Args:
        name: what the user wrote.
        names: those that exist.
        what: what they are names of, in the plural: runs.
    """
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(repr(other) for other in near)}?"
    if not names:
        return f"there are no {what} there"
    shown = ", ".join(sorted(names)[-5:])
    return f"{what} there: {shown}{f' and {len(names) - 5} more' if len(names) > 5 else ''}"
