"""A stop that somebody asked for through the run's storage: `control/stop.json`, answered by `control/stopped.json`."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import Any, Final

from trainer_app.errors import StorageError
from trainer_app.run import documents, lease
from trainer_app.storage import Store

REQUEST: Final = "control/stop.json"
ANSWER: Final = "control/stopped.json"
EVERY_S: Final = 1.0

_log = logging.getLogger(__name__)


def read_request(store: Store) -> dict[str, Any] | None:
    """The request {id, asked, by}, if there is one."""
    return documents.read(store, REQUEST)


def is_answered(store: Store) -> bool:
    """Whether the request, if there is one, was answered."""
    request, answer = read_request(store), documents.read(store, ANSWER)
    return request is not None and answer is not None and answer.get("id") == request.get("id")


def write_answer(store: Store, place: dict[str, Any]) -> None:
    """Say where the run stopped: `place` has epochs (how many are done), step, and commit (its name or None)."""
    request = read_request(store) or {}
    documents.write(store, ANSWER, {"id": request.get("id"), **place, "at": round(time.time(), 3)})


def withdraw_request(store: Store) -> None:
    """Somebody goes on with the run: what was asked of an earlier attempt is over."""
    store.delete(REQUEST)


@dataclass
class StopPoll:
    """Asks storage whether the run is to stop, at most once a second: epochs may be shorter.

    Called where a fit could stop. A storage that does not answer has not asked for anything.

    Args:
        driver: token of the lease under which the fit was started; "" for none.
    """

    store: Store
    driver: str = ""
    _next: float = field(default=0.0, init=False)
    _found: bool = field(default=False, init=False)

    def __call__(self) -> bool:
        """Raises LeaseLostError if another driver has taken over the run."""
        now = time.monotonic()
        if not self._found and now >= self._next:
            self._next = now + EVERY_S
            try:
                lease.check_token(self.store, self.driver)
                self._found = self.store.exists(REQUEST)
            except StorageError as error:
                _log.warning("can't see whether a stop was asked for: %s", error)
        return self._found
