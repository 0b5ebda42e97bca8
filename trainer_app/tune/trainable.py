"""What is added to Tune's class of a trial's function: a trial that Tune ends is waited for."""

from __future__ import annotations

import sys
import time
from typing import Any, Final, Protocol

from ray.tune.trainable.function_trainable import FunctionTrainable

from trainer_app import ray_compat

WAITS_S: Final = 60.0
SAID_S: Final = 2.0  # Tune ends the processes that are left at the end of a sweep after 5 s
POLL_S: Final = 0.5


class Session(Protocol):
    """What Tune knows of the thread that a trial's function runs in."""

    training_started: bool
    training_thread: Any

    def finish(self, timeout: float | None = None) -> Any:
        """Let the thread's next report, or the one that it waits in, end it."""


class EndsWithItsThread(FunctionTrainable):
    """The files of a trial are sent as its function ends: Tune waits 2 s for that before the next trial, or not."""

    def cleanup(self) -> None:
        """End the trial. Its process may end afterwards."""
        end_thread(ray_compat.get_session(), self.trial_id)
        super().cleanup()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """End the trial, and let the process be used for the next one; False if it can't be."""
        end_thread(ray_compat.get_session(), self.trial_id)
        return bool(super().reset_config(new_config))


def end_thread(session: Session, trial: str) -> None:
    """Let the trial's function end and wait for it, WAITS_S at most; say so if it takes longer than usual."""
    started, said = time.monotonic(), False
    while session.training_started and (waited := time.monotonic() - started) < WAITS_S:
        session.finish(timeout=POLL_S)  # again: what the user's code raises now is reported too, and would wait
        if not session.training_thread.is_alive():
            return
        if waited > SAID_S and not said:
            said = True
            _say(f"trial {trial} is over and still sends what it wrote (at most {WAITS_S:.0f} s)")
    if session.training_started:
        _say(f"trial {trial} did not end within {WAITS_S:.0f} s: artifacts/{trial} may lack what it wrote last")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
