"""`trainer tune`, a sweep. A trial of one worker runs inside its Tune trial, a larger one starts its own."""

from __future__ import annotations

from typing import Any


def run(*args: Any, **kwargs: Any) -> int:
    """Call `trainer_app.tune.sweep.run`, which is imported on demand since it imports Ray."""
    from trainer_app.tune.sweep import run as run_sweep

    return run_sweep(*args, **kwargs)
