"""Deadlines over all attempts of a run, in seconds that drivers have held its lease."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from trainer_app.errors import InputError

TOTAL: Final = "TRAINER_DEADLINE_S"
FIRST_STEP: Final = "TRAINER_FIRST_STEP_DEADLINE_S"
# The chart's values that set them: what a user knows of a run on Kubernetes.
VALUES: Final = {TOTAL: "lifetime.totalDeadlineSeconds", FIRST_STEP: "lifetime.firstStepDeadlineSeconds"}


@dataclass(frozen=True)
class Deadlines:
    """Seconds; None is no deadline. `first_step`: until the first epoch is reported."""

    total: float | None = None
    first_step: float | None = None

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Deadlines:
        """Read the environment.

        Raises:
            InputError: a variable is not a number of seconds above 0.
        """
        env = os.environ if env is None else env
        return cls(_seconds(env, TOTAL), _seconds(env, FIRST_STEP))

    def passed(self, spent: float, *, begun: bool) -> str:
        """Return which deadline has passed, in words, "" if none; `spent`: seconds of all attempts."""
        if self.total is not None and spent >= self.total:
            return f"all attempts together have taken {spent:.0f} s, {_name(TOTAL)} allows {self.total:g}"
        if self.first_step is not None and not begun and spent >= self.first_step:
            limit = f"{_name(FIRST_STEP)} allows {self.first_step:g}"
            return f"no epoch has ended in {spent:.0f} s of all attempts, {limit}"
        return ""


def _name(variable: str) -> str:
    return f"{VALUES[variable]} ({variable})"


def _seconds(env: Mapping[str, str], name: str) -> float | None:
    given = env.get(name)
    if not given:
        return None
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise InputError(f"{name} must be a number of seconds above 0, not {given!r}")
    return seconds
