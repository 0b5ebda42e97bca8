"""A stop that is requested in the run's storage, in `control/stop.json`, and answered in `control/stopped.json`."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import Any, Final

from trainer_app.errors import AccessDeniedError, StorageError
from trainer_app.run import documents, lease_file
from trainer_app.storage import Store, try_once

REQUEST: Final = "control/stop.json"
ANSWER: Final = "control/stopped.json"
EVERY_S: Final = 1.0

_log = logging.getLogger(__name__)


def read_request(store: Store) -> dict[str, Any] | None:
    """Return the request {id, asked, by}, if there is one that was not withdrawn."""
    return documents.read(store, REQUEST) or None


def is_answered(store: Store) -> bool:
    """Return whether there is a request and it was answered."""
    request, answer = read_request(store), documents.read(store, ANSWER)
    return request is not None and answer is not None and answer.get("id") == request.get("id")


def write_answer(store: Store, position: dict[str, Any]) -> None:
    """Write where the run stopped: `position` has epochs (how many are done), step, and commit (its name or None)."""
    request = read_request(store) or {}
    documents.write(store, ANSWER, {"id": request.get("id"), **position, "at": round(time.time(), 3)})


def withdraw_request(store: Store) -> None:
    """Delete the request: the run is resumed, and the request was to an earlier attempt."""
    try:
        store.delete(REQUEST)
    except AccessDeniedError:  # a bucket's policy may allow no deletion
        if read_request(store):
            documents.write(store, REQUEST, {})


@dataclass
class StopPoll:
    """Asks the storage whether the run is to stop, at most once a second: epochs may be shorter.

    Called whenever a fit could stop. If the storage does not answer, the fit continues.
    """

    store: Store
    driver: str = ""  # token of the lease under which the fit was started; "" for none
    _next: float = field(default=0.0, init=False)
    _requested: bool = field(default=False, init=False)

    def __call__(self) -> bool:
        """Return whether to stop.

        Raises:
            LeaseLostError: another driver has taken over the run.
        """
        now = time.monotonic()
        if not self._requested and now >= self._next:
            self._next = now + EVERY_S
            try:
                once = try_once(self.store)
                lease_file.check_token(once, self.driver)
                self._requested = read_request(once) is not None
            except StorageError as error:
                _log.warning("can't read whether a stop was requested: %s", error)
        return self._requested
