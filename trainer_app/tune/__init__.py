"""`trainer tune`: a sweep with Ray Tune. A trial of one worker runs inside its Tune trial, a larger starts its own."""

from __future__ import annotations

from typing import Any


def run(*args: Any, **kwargs: Any) -> int:
    """See `trainer_app.tune.sweep.run`; imported here on demand, since it imports Ray."""
    from trainer_app.tune.sweep import run as run_sweep

    return run_sweep(*args, **kwargs)
