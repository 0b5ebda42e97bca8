"""The lease of a run, `lease.json`, which its holder renews: one driver at a time may write to the run."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final

from trainer_app.errors import AlreadyExistsError, LeaseHeldError, ObjectChangedError, StorageError
from trainer_app.formatting import one_line
from trainer_app.run import documents, lease_file
from trainer_app.run.fence import fenced
from trainer_app.run.guard import Guard
from trainer_app.run.identity import ray_cluster_name, this_process
from trainer_app.run.lease_file import KEY, STALE_S
from trainer_app.storage import Store, patience_s, store_name, try_once

LEASE_S: Final = 30.0
RENEW_S: Final = 10.0
POLL_S: Final = 1.0
WAIT_S: Final = 600.0
QUIET_S: Final = 5.0

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
        self.former: dict[str, Any] | None = None  # what the lease said before it was acquired; None if there was none
        self._renewed = 0.0
        self._before, self._since, self._number = 0.0, time.monotonic(), 0
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
        return lease_file.token_of(self._document(0.0))

    @property
    def spent(self) -> float:
        """Seconds that drivers of this run have held its lease, over all attempts."""
        return self._before + time.monotonic() - self._since

    def acquire(self, *, wait: bool, say: Say) -> None:
        """Acquire the lease, which another driver may hold.

        Args:
            wait: whether to wait until a lease that is held expires or is released. Without it only a lease whose
                end says nothing is waited for, for as long as it takes to see whether it is renewed.
            say: called once with what is waited for.

        Raises:
            LeaseHeldError: without `wait`, or after WAIT_S; it names the holder and the end of its lease.
        """
        began = since = time.monotonic()
        said, seen = False, None
        while True:
            tag = self.store.tag(KEY)
            document = lease_file.read(self.store)
            renewed = seen is not None and document != seen
            if document != seen:
                seen, since = document, time.monotonic()
            free = lease_file.is_free(document) or lease_file.is_held_by(document, self.me)
            free = free or time.monotonic() - since > STALE_S
            if free and self._take(document, tag):
                break
            held = lease_file.describe(self.store, document or {}, what="")
            if not (free or wait) and (renewed or not lease_file.is_ahead(document)):
                raise LeaseHeldError(lease_file.describe(self.store, document or {}))
            if time.monotonic() - began > WAIT_S:
                raise LeaseHeldError(f"{held}; this driver has waited {WAIT_S:.0f} s")
            if not said and (not free or time.monotonic() - began > QUIET_S):
                why = "other drivers, or traces of them, are about to take the run's lease" if free else held
                say(f"{why}: waiting for it to expire or to be released, up to {STALE_S if free else WAIT_S:.0f} s")
                said = True
            time.sleep(POLL_S * random.uniform(0.5, 1.5))  # two that saw each other come again at different times
        self._guard.start()

    def _take(self, before: dict[str, Any] | None, tag: str | None) -> bool:
        """Write this process as the holder, in place of the document with this tag; return whether it is."""
        self.former = before
        self._before = float((before or {}).get("spent") or 0.0)
        self._number = lease_file.next_number(before, begun=before is None and self.store.exists("run.json"))
        self._since = time.monotonic()
        return self._write_alone(self.store, tag) and time.monotonic() - self._renewed < LEASE_S

    def _write_alone(self, store: Store, tag: str | None) -> bool:
        """Write as `_write`, if nobody else is about to."""
        with lease_file.taking(store) as alone:
            return alone and store.tag(KEY) == tag and self._write(store, tag)

    def _write(self, store: Store, tag: str | None, *, released: bool = False) -> bool:
        """Write the lease in place of what has this tag; return whether that was still there."""
        began = time.monotonic()
        try:
            document = self._document(0.0 if released else time.time() + LEASE_S)
            documents.write(store, KEY, document, create=tag is None, if_match=tag)
        except (AlreadyExistsError, ObjectChangedError):
            return False
        self._renewed = began
        return True

    def _document(self, expires: float) -> dict[str, Any]:
        holder = {"submission": self.submission, "holder": self.me.name, "expires": round(expires, 3)}
        spent = {"spent": round(self.spent, 1), "cluster": ray_cluster_name()}
        return {**holder, "attempt": self._number, **asdict(self.me), **spent}

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
            store = try_once(self.store)
            tag = store.tag(KEY)
            document = lease_file.read(store)
            if self._note_loss(document):
                return
            if time.monotonic() - self._renewed < LEASE_S:
                self._write(store, tag)  # if not, the next renewal finds out why
            else:  # another driver may be about to take it
                self._write_alone(store, tag)

    def check(self) -> None:
        """Set `lost` if another driver has the lease now."""
        self._note_loss(lease_file.read(try_once(self.store)))

    def _note_loss(self, document: dict[str, Any] | None) -> bool:
        """Set `lost` and return True if another driver has it; a late renewal of a former one is none."""
        if not document or lease_file.is_held_by(document, self.me):
            return False
        if lease_file.number_of(document) < self._number:
            return False
        self.lost = one_line(document.get("holder"))
        return True

    def release(self) -> None:
        """Let the next driver begin at once; if the storage does not answer, it waits until the lease expires."""
        with self._lock:
            self._over.set()
            self._guard.stop()
            _held.pop(self.store.uri, None)
            try:
                tag = self.store.tag(KEY)
                if lease_file.is_held_by(lease_file.read(self.store), self.me):
                    self._write(self.store, tag, released=True)
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


def fence(store: Store) -> Store:
    """Return the store of a run that writes only while no other driver has its lease.

    It is the same store if this process has not acquired that lease.
    """
    return fenced(store, token(store))


def release(store: Store) -> None:
    """Release the lease of the run in `store`, if this process holds it."""
    lease = _held.get(store.uri)
    if lease is not None:
        lease.release()
