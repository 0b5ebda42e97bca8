"""Names of runs and trials."""

from __future__ import annotations

import difflib
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from trainer_app.errors import InputError

MAX_NAME = 44  # the operator appends its own to a RayJob's name, within the 63 of a DNS label
_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


def check_name(name: str) -> str:
    """Returns the run's name, or raises InputError: it becomes the name of Kubernetes objects too (RFC 1035)."""
    if not _NAME.fullmatch(name) or len(name) > MAX_NAME:
        raise InputError(
            f"name {name!r} can't be a run's name; allowed: up to {MAX_NAME} of a-z, 0-9 and '-', beginning with "
            f"a letter and not ending with '-', such as {_fit(name, MAX_NAME)!r}"
        )
    return name


def generate_name(base: str | None, *, now: float | None = None) -> str:
    """`<base>-<UTC yymmddhhmmss>`, the base made fit and cut as needed."""
    stamp = datetime.fromtimestamp(time.time() if now is None else now, UTC).strftime("%y%m%d%H%M%S")
    return f"{_fit(base or 'run', MAX_NAME - 1 - len(stamp))}-{stamp}"


def trial_name(index: int) -> str:
    """`t00003`."""
    return f"t{index:05d}"


def suggest_name(name: str, names: Sequence[str], *, what: str) -> str:
    """`did you mean 'mnist-1'?`, or what there is."""
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(repr(other) for other in near)}?"
    if not names:
        return f"there are no {what} there"
    shown = ", ".join(sorted(names)[-5:])
    return f"{what} there: {shown}{f' and {len(names) - 5} more' if len(names) > 5 else ''}"


def _fit(base: str, length: int) -> str:
    fit = re.sub(r"[^a-z0-9]+", "-", base.lower()).strip("-")
    fit = fit if fit[:1].isalpha() else f"run-{fit}"
    return fit[:length].strip("-")
