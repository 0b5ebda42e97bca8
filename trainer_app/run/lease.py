"""The lease of a run, `lease.json`, which its holder renews: one driver at a time may write to the run."""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final

from trainer_app.errors import AlreadyExistsError, LeaseHeldError, LeaseLostError, NotFoundError, StorageError
from trainer_app.run import documents
from trainer_app.run.guard import Guard
from trainer_app.run.identity import Process, ray_cluster_name, this_process
from trainer_app.storage import Store, patience_s, store_name, try_once

KEY: Final = "lease.json"
LEASE_S: Final = 30.0
RENEW_S: Final = 10.0
SETTLE_S: Final = 0.3  # two that saw the same lease expire both write: the last one to write has it
POLL_S: Final = 1.0
STALE_S: Final = 3 * LEASE_S  # without a renewal, by the clock of the one who waits: the holder's may be ahead
WAIT_S: Final = 600.0

_log = logging.getLogger(__name__)
_held: dict[str, Lease] = {}
Say = Callable[[str], None]


class Lease:
    """This process's lease of a run. `lost` is the name of the driver that has taken it over; None if none has.

    `expires` is the holder's clock: the clocks of a cluster's nodes must not differ by more than about 10 s.
    """

    def __init__(self, store: Store, submission: str | None) -> None:
        self.store, self.submission, self.me = store, submission, this_process()
        self.lost: str | None = None
        self._before, self._since, self._attempt = 0.0, time.monotonic(), 0
        self._over, self._lock = threading.Event(), threading.Lock()
        self._guard = Guard(
            "the run's lease is renewed", self._renew, every_s=lambda: RENEW_S, storage_s=patience_s(store)
        )

    @property
    def name(self) -> str:
        """The run's name."""
        return store_name(self.store)

    @property
    def token(self) -> str:
        """A string that no other acquisition of the lease has."""
        return _token(self._document(0.0))

    @property
    def spent(self) -> float:
        """Seconds that drivers of this run have held its lease, over all attempts."""
        return self._before + time.monotonic() - self._since

    def acquire(self, *, wait: bool, say: Say) -> None:
        """Acquire the lease, which another driver may hold.

        Args:
            wait: whether to wait until a lease that is held expires or is released.
            say: called once with what is waited for.

        Raises:
            LeaseHeldError: without `wait`, or after WAIT_S; it names the holder and the end of its lease.
        """
        began = since = time.monotonic()
        said, seen = False, None
        while True:
            document = _read(self.store)
            if document != seen:
                seen, since = document, time.monotonic()
            if document is None or _is_free(document) or time.monotonic() - since > STALE_S:
                if self._write_own(document):
                    break
            elif not wait:
                raise LeaseHeldError(_describe(self.store, document))
            elif time.monotonic() - began > WAIT_S:
                raise LeaseHeldError(f"{_describe(self.store, document)}; this driver has waited {WAIT_S:.0f} s")
            elif not said:
                waiting = f"waiting for it to expire or to be released, up to {WAIT_S:.0f} s"
                say(f"{_describe(self.store, document, what='')}: {waiting}")
                said = True
            time.sleep(POLL_S)
        self._guard.start()

    def _write_own(self, before: dict[str, Any] | None) -> bool:
        """Write this process as the holder; return whether it is."""
        self._before = float((before or {}).get("spent") or 0.0)
        self._attempt = int((before or {}).get("attempt") or 0) + 1
        self._since = time.monotonic()
        try:
            documents.write(self.store, KEY, self._document(time.time() + LEASE_S), create=before is None)
        except AlreadyExistsError:
            return False
        if before is None:
            return True
        time.sleep(SETTLE_S)
        return _is_held_by(_read(self.store), self.me)

    def _document(self, expires: float) -> dict[str, Any]:
        holder = {"submission": self.submission, "holder": self.me.name, "expires": round(expires, 3)}
        spent = {"spent": round(self.spent, 1), "cluster": ray_cluster_name()}
        return {**holder, "attempt": self._attempt, **asdict(self.me), **spent}

    def _renew(self) -> bool:
        """Renew; return whether there is nothing more to renew. A failure is no reason: a new holder is seen then."""
        self.renew()
        return self.lost is not None

    def renew(self) -> None:
        """Extend the lease; if another driver has it, set `lost` to that driver's name.

        Raises:
            StorageError: the storage did not answer.
        """
        with self._lock:
            if self._over.is_set():
                return
            document = _read(try_once(self.store))
            if document and not _is_held_by(document, self.me):
                self.lost = str(document.get("holder"))
                return
            documents.write(try_once(self.store), KEY, self._document(time.time() + LEASE_S))

    def release(self) -> None:
        """Let the next driver begin at once; if the storage does not answer, it waits until the lease expires."""
        with self._lock:
            self._over.set()
            self._guard.stop()
            _held.pop(self.store.uri, None)
            try:
                if _is_held_by(_read(self.store), self.me):
                    documents.write(self.store, KEY, self._document(0.0))
            except StorageError as error:
                _log.warning("the run's lease was not released; it expires by itself: %s", error)


def acquire(store: Store, submission: str | None, *, wait: bool = False, say: Say = _log.warning) -> Lease:
    """Return this process's lease of the run in `store`, acquired if it holds none.

    Args:
        submission: the id of this process's submission; None for a run that a user starts here.
        wait, say: as for `Lease.acquire`.

    Raises:
        LeaseHeldError: another driver has it, and `wait` is false.
    """
    lease = _held.get(store.uri)
    if lease is None:
        lease = Lease(store, submission)
        lease.acquire(wait=wait, say=say)
        _held[store.uri] = lease
    return lease


def token(store: Store) -> str:
    """Return the token of the lease that this process holds on the run in `store`; "" if it holds none."""
    lease = _held.get(store.uri)
    return lease.token if lease else ""


def check_token(store: Store, token: str) -> None:
    """Refuse what a worker makes after its driver has been replaced: workers may outlive it.

    A lease that has only expired is no reason: the next driver resumes from a commit that is made before it looks.

    Raises:
        LeaseLostError: the lease is another driver's than the one with this `token`; "" is no driver's.
    """
    document = _read(store)
    if document and token not in ("", _token(document)):
        holder = document.get("holder")
        raise LeaseLostError(f"the driver {holder} has taken over the run: this worker belongs to a former driver")


def check_not_held(store: Store) -> None:
    """Check that no other driver works on the run in `store`; write nothing.

    Raises:
        LeaseHeldError: one has its lease.
    """
    document = _read(store)
    if document is not None and not _is_free(document) and not _is_held_by(document, this_process()):
        raise LeaseHeldError(_describe(store, document))


def is_held(store: Store) -> bool:
    """Return whether a driver has the lease of the run in `store`."""
    return (document := _read(store)) is not None and not _is_free(document)


def release(store: Store) -> None:
    """Release the lease of the run in `store`, if this process holds it."""
    lease = _held.get(store.uri)
    if lease is not None:
        lease.release()


def _read(store: Store) -> dict[str, Any] | None:
    """Return the lease's document; None if there is none; {}, which is nobody's, if it is damaged."""
    try:
        return parse(store.get(KEY))
    except NotFoundError:
        return None
    except ValueError as error:
        _log.warning("%s: %s is damaged and is not used: %s", store.uri, KEY, error)
        return {}


def parse(data: bytes) -> dict[str, Any]:
    """Return a lease's document. Raises ValueError if it is damaged, in whatever way."""
    try:
        document: dict[str, Any] = json.loads(data)
        holding_process(document)
        if not math.isfinite(sum(float(document.get(field) or 0) for field in ("expires", "spent", "attempt"))):
            raise ValueError("a number in it is not finite")
    except (AttributeError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(str(error)) from error
    return document


def _is_free(document: dict[str, Any]) -> bool:
    return float(document.get("expires") or 0.0) <= time.time() or holding_process(document).is_dead()


def _is_held_by(document: dict[str, Any] | None, me: Process) -> bool:
    return document is not None and holding_process(document) == me


def holding_process(document: dict[str, Any]) -> Process:
    """Return the process that has the lease; one that is nowhere if the document is empty."""
    host, machine = str(document.get("host", "")), str(document.get("machine", ""))
    return Process(host, int(document.get("pid") or 0), machine, int(document.get("began") or 0))


def _token(document: dict[str, Any]) -> str:
    return f"{document.get('holder')} {document.get('began')} {document.get('attempt')}"


def _describe(store: Store, document: dict[str, Any], *, what: str = "; wait until it ends, or end it first") -> str:
    until = time.strftime("%H:%M:%S UTC", time.gmtime(float(document.get("expires") or 0.0)))
    held = f"run {store_name(store)} is held by the driver {document.get('holder')}"
    return f"{held}, until {until} if it isn't renewed{what}"
