"""What is added to Tune's classes: a trial that Tune ends is waited for, also the last ones of a sweep."""

from __future__ import annotations

import sys
import threading
import time
from typing import Any, Final, Protocol

from ray.tune.trainable.function_trainable import FunctionTrainable

from trainer_app import ray_compat

WAITS_S: Final = 60.0
SAID_S: Final = 2.0
POLL_S: Final = 0.5


class Session(Protocol):
    """What Tune knows of the thread that a trial's function runs in."""

    training_started: bool
    training_thread: Any
    stop_event: threading.Event

    def finish(self, timeout: float | None = None) -> Any:
        """Let the thread's next report, or the one that it waits in, end it."""


class PatientController(ray_compat.TuneController):
    """Tune's controller, which gives the last trials of a sweep as much time as the others: Ray's gives them 10 s."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._actor_force_cleanup_timeout = int(WAITS_S) + 5  # a process says by itself that its time is over


def wait_for_last_trials() -> None:
    """Let the sweeps of this process end with PatientController."""
    ray_compat.tune.TuneController = PatientController


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


def is_ending() -> bool:
    """Return whether Tune ends the trial of this process."""
    session: Session | None = ray_compat.get_session()
    return session is not None and session.stop_event.is_set()


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
