"""Asking a storage or an API server that may be silent for a moment."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from trainer_app.errors import AccessDeniedError, InputError, NotFoundError, RunFailedError, TrainerError

POLL_S = 2.0
PATIENCE_S = 120.0  # as `trainer wait`
Answer = TypeVar("Answer")


def ask(look: Callable[[], Answer]) -> Answer:
    """Return what `look` returns; while the storage or the API server does not answer, repeat it for PATIENCE_S."""
    began = time.monotonic()
    while True:
        try:
            return look()
        except (InputError, NotFoundError, AccessDeniedError, RunFailedError):
            raise
        except TrainerError:
            if time.monotonic() - began > PATIENCE_S:
                raise
            time.sleep(POLL_S)
