"""When a run on Kubernetes may have changed, from watches of its RayJob and its pods."""

from __future__ import annotations

import threading
import time
from typing import Final, Self

from trainer_app.errors import AccessDeniedError, TrainerError
from trainer_app.launch import pods
from trainer_app.launch.kube import Kube

WATCH_S: Final = (
    60  # the server ends a watch then; the next one begins with what is there: nothing is missed for longer
)


class Changes:
    """Wakes who waits for a run to change.

    Args:
        schedule: the RayCronJob that created it, whose label its pods have; "" if none did.
        poll_s: the shortest time between two wake-ups, and the time between all if this user may not watch.
    """

    def __init__(self, kube: Kube, run: str, schedule: str = "", *, poll_s: float) -> None:
        self._kube, self._poll_s = kube, poll_s
        self._changed, self._over = threading.Event(), threading.Event()
        self._is_denied = False
        self._last = time.monotonic()
        self._watches = {
            "RayJob": {"fieldSelector": f"metadata.name={run}"},
            "Pod": {"labelSelector": f"{pods.RUN_LABEL}={schedule or run}"},
        }

    def __enter__(self) -> Self:
        for kind in self._watches:
            threading.Thread(target=self._watch, args=(kind,), name=f"watch {kind}", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def wait(self, limit_s: float) -> None:
        """Wait for a change, `limit_s` seconds at most."""
        self._changed.wait(self._poll_s if self._is_denied else limit_s)
        time.sleep(max(0.0, self._last + self._poll_s - time.monotonic()))  # several changes are one
        self._changed.clear()
        self._last = time.monotonic()

    def _watch(self, kind: str) -> None:
        while not self._over.is_set():
            try:
                for _ in self._kube.watch(kind, timeout_s=WATCH_S, **self._watches[kind]):
                    self._changed.set()
                    if self._over.is_set():
                        return
            except AccessDeniedError:  # a Role of an earlier version
                self._is_denied = True
                self._changed.set()
                return
            except TrainerError:
                self._changed.set()  # who looks now says what is wrong
            self._over.wait(self._poll_s)
