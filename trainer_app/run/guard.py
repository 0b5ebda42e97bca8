"""Threads that guard a run: whatever their work raises, they go on; one that hangs or can't work for long is named."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from typing import Final

from trainer_app.errors import StorageError
from trainer_app.formatting import one_line
from trainer_app.storage.retrying import is_asking

LIMIT_S: Final = 60.0  # a storage that does not answer has a limit of its own: failure.storage_timeout_s

_log = logging.getLogger(__name__)
_guards: list[Guard] = []


class Guard:
    """A thread that works every `every_s` seconds until it is stopped, or until `work` returns True.

    Args:
        what: the work, for messages: "the run's lease is renewed".
        work: may raise anything, or never return.
        storage_s: for how many seconds the storage may keep it from its work.
        slow: whether the work may take long: it does not hang then.
    """

    def __init__(
        self,
        what: str,
        work: Callable[[], bool | None],
        *,
        every_s: Callable[[], float],
        storage_s: float = math.inf,
        slow: bool = False,
    ) -> None:
        self.what, self._work, self._every_s, self._storage_s = what, work, every_s, storage_s
        self._over = threading.Event()
        self._slow = slow
        self._began: float | None = None  # the work that is not done yet
        self._since: float | None = None
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name=what, daemon=True)

    def start(self) -> None:
        """Start to work, the first time after `every_s`."""
        _guards.append(self)
        self._thread.start()

    def stop(self, *, wait_s: float = 0.0) -> None:
        """End the thread; wait for it up to `wait_s` seconds, if it was started."""
        self._over.set()
        if self in _guards:
            _guards.remove(self)
        if wait_s and self._thread.is_alive():
            self._thread.join(wait_s)

    def work(self) -> bool:
        """Do the work once; return whether it is over."""
        self._began = time.monotonic()
        try:
            over = bool(self._work())
        except Exception as error:  # noqa: BLE001 - a guard outlives whatever its work raises
            traceback = not isinstance(error, StorageError)
            text = one_line(f"{self.what}: {type(error).__name__}: {error}")
            _log.warning("it failed that %s", text, exc_info=traceback)
            self._since, self._error = self._since or time.monotonic(), error
            return False
        finally:
            self._began = None
        self._since, self._error = None, None
        return over

    @property
    def problem(self) -> str:
        """Why it has not done its work for too long; "" if it has."""
        began = self._began
        if began is not None and (idle := time.monotonic() - began) >= self._limit_of_hang():
            return f"{self.what}: that has not returned for {idle:.0f} s"
        error, since = self._error, self._since
        if error is None or since is None:
            return ""
        limit = self._storage_s if isinstance(error, StorageError) else LIMIT_S
        idle = time.monotonic() - since
        return one_line(f"{self.what}: {error}, for {idle:.0f} s ({type(error).__name__})") if idle >= limit else ""

    def _limit_of_hang(self) -> float:
        """Return how long the work may take: a request that hangs is a storage that does not answer."""
        if self._slow:
            return math.inf
        return max(LIMIT_S, self._storage_s) if is_asking(self._thread.ident) else LIMIT_S

    def _run(self) -> None:
        while not self._over.wait(self._every_s()):
            if self.work():
                return


def find_problem() -> str:
    """Return why a guard of this process has not done its work for too long; "" if all do."""
    return next((problem for guard in list(_guards) if (problem := guard.problem)), "")
