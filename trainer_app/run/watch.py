"""What is watched while a driver works: its lease, requests to stop, the deadlines, and whether a guard hangs."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any, Final, Self

from trainer_app.errors import DeadlineError, GuardError, LeaseLostError, RunEndedError, StorageError, TrainerError
from trainer_app.formatting import one_line
from trainer_app.run import guard, stop
from trainer_app.run.deadlines import Deadlines
from trainer_app.run.lease import Lease
from trainer_app.storage import Store, patience_s, try_once
from trainer_app.storage.retrying import say

POLL_S: Final = 2.0
LEAVE_S: Final = 120.0  # for the run's end, once it can't be guarded
AGAIN_S: Final = 20.0  # an end may be swallowed (__del__, a C++ callback); a clean one takes up to 10 s
SIGNAL: Final = signal.SIGUSR2  # Tune takes SIGUSR1, and `run.interrupt` the ones that users send

_log = logging.getLogger(__name__)
Event = dict[str, Any]
Emit = Callable[[Event], None]


class Watch:
    """Ends the driver's main thread with `RunEndedError`; a stop only sets `stopping`.

    Args:
        emit: takes events; the watch learns from those that go through its own `emit` that an epoch has ended.
        begun: whether an earlier attempt has reported an epoch.
        missing: which resources the run waits for, for the first-step deadline's message; "" if none.
    """

    def __init__(
        self, store: Store, lease: Lease, emit: Emit, *, deadlines: Deadlines, begun: bool, missing: Callable[[], str]
    ) -> None:
        self.stopping = threading.Event()
        self.error: TrainerError | None = None
        self._store, self._lease, self._emit = try_once(store), lease, emit
        self._deadlines, self._begun, self._missing = deadlines, begun, missing
        self._over = threading.Event()
        self._before: Any = None
        self._main = threading.current_thread() is threading.main_thread()
        self._last = threading.Timer(LEAVE_S, self._leave)
        self._last.daemon = True
        # The clock asks no storage: it must not hang where what it watches does.
        self._clock = guard.Guard("deadlines and guards are watched", self._look, every_s=self._wait_s)
        self._stops = guard.Guard(
            "requests to stop are watched",
            self._check_for_stop,
            every_s=lambda: POLL_S,
            storage_s=patience_s(store),
        )

    def emit(self, event: Event) -> None:
        """Pass an event on, and note whether an epoch has ended."""
        self._begun = self._begun or event.get("event") == "epoch"
        self._emit(event)

    def __enter__(self) -> Self:
        """Start to watch.

        Raises:
            DeadlineError: one has passed in earlier attempts. LeaseLostError: another driver has the lease.
        """
        self._check()
        if self.error:
            raise self.error
        self._check_for_stop()
        if self._main:
            self._before = signal.signal(SIGNAL, self._raise)
        self._clock.start()
        self._stops.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._stops.stop()
        self._clock.stop(wait_s=10)
        if self._main:
            signal.signal(SIGNAL, signal.SIG_DFL if self._before is None else self._before)

    def close(self) -> None:
        """Release the lease: the run's end is recorded."""
        self._lease.release()
        self._last.cancel()

    def _leave(self) -> None:
        """End this process: what keeps the guards from their work keeps the run from ending, too."""
        say(f"{self.error}; its end was not recorded either")
        os._exit(TrainerError.exit_code)

    def _raise(self, signum: int, frame: FrameType | None) -> None:
        if self.error and not self._over.is_set():
            raise RunEndedError(str(self.error))

    def _wait_s(self) -> float:
        return AGAIN_S if self.error else POLL_S

    def _look(self) -> bool:
        """Look once; end the main thread if there is a reason, and again until it has ended. Return whether to stop."""
        try:
            if not self.error:
                self._check()
        finally:
            problem = guard.find_problem()
            if problem and not self.error:
                self.error = GuardError(f"the run can't be guarded any more: {problem}; resume it with --resume")
                if self._main:
                    self._last.start()
            if self.error and self._main and not self._over.is_set():
                signal.pthread_kill(threading.main_thread().ident or 0, SIGNAL)
        if self.error and not self._main:
            _log.error("%s; a driver that is not in the main thread can't be ended from here", self.error)
        return self._over.is_set() or (self.error is not None and not self._main)

    def check_lease(self) -> None:
        """Set `error` if another driver has the run's lease; if the storage does not answer, none has."""
        with suppress(StorageError):
            self._lease.check()
        if self._lease.lost:
            message = f"the driver {self._lease.lost} has taken over run {self._lease.name}: this one ends"
            self.error = LeaseLostError(message)

    def _check(self) -> None:
        if self._lease.lost:
            self.check_lease()
        elif passed := self._deadlines.passed(self._lease.spent, begun=self._begun):
            missing = "" if self._begun else self._missing()
            self.error = DeadlineError(one_line(f"{passed}; {missing}" if missing else passed))

    def _check_for_stop(self) -> None:
        if self.stopping.is_set():
            return
        try:
            request = stop.read_request(self._store)
        except StorageError as error:
            _log.warning("can't read whether a stop was requested: %s", error)
            return
        if request is not None:
            self.stopping.set()
            self._emit({"event": "stop", "by": request.get("by"), "asked": request.get("asked") or time.time()})
