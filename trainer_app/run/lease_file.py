"""`lease.json`: what it says of a run's driver, and how one driver at a time comes to write it."""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from trainer_app.errors import LeaseHeldError, LeaseLostError, NotFoundError, StorageError
from trainer_app.formatting import one_line
from trainer_app.run.identity import Process, this_process
from trainer_app.storage import Store, store_name, try_once

KEY: Final = "lease.json"
TAKERS: Final = "lease"  # the folder of those who are about to write it
STALE_S: Final = 90.0
AHEAD_S: Final = 60.0  # no holder whose clock is right writes an end later than that
_BOUNDS: Final = {"expires": 1e11, "spent": 1e10, "attempt": 10**15, "pid": (1 << 31) - 1}

_log = logging.getLogger(__name__)


def read(store: Store) -> dict[str, Any] | None:
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
        for field, highest in _BOUNDS.items():
            if not 0 <= float(document.get(field) or 0) <= highest:
                raise ValueError(f"its {field} is no number that a driver writes")
    except (AttributeError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(str(error)) from error
    return document


def is_free(document: dict[str, Any] | None) -> bool:
    """Return whether the lease is nobody's: none, expired, released, damaged, or of a process that has ended."""
    return not document or float(document.get("expires") or 0.0) <= time.time() or holding_process(document).is_dead()


def is_ahead(document: dict[str, Any] | None) -> bool:
    """Return whether the lease's end says nothing: its holder's clock is ahead, or it is nobody's word."""
    return float((document or {}).get("expires") or 0.0) > time.time() + AHEAD_S


def is_held_by(document: dict[str, Any] | None, process: Process) -> bool:
    """Return whether the process has the lease, expired or not."""
    return document is not None and holding_process(document) == process


def holding_process(document: dict[str, Any]) -> Process:
    """Return the process that has the lease; one that is nowhere if the document is empty."""
    host, machine = str(document.get("host", "")), str(document.get("machine", ""))
    return Process(host, int(document.get("pid") or 0), machine, int(document.get("began") or 0))


def number_of(document: dict[str, Any]) -> int:
    """Return the lease's number: how often it was acquired."""
    return int(document.get("attempt") or 0)


def next_number(before: dict[str, Any] | None, *, begun: bool = False) -> int:
    """Return the number of the next lease: after one that is damaged or gone, higher than any that it can have had.

    Args:
        before: the lease that was read; None if there was none.
        begun: whether the run has begun, so that its lease is gone.
    """
    if before is None and not begun:
        return 1
    return (number_of(before or {}) or int(time.time())) + 1


def token_of(document: dict[str, Any]) -> str:
    """Return a string that no other acquisition of the lease has. It ends with the lease's number."""
    return f"{document.get('holder')} {document.get('began')} {number_of(document)}"


def describe(store: Store, document: dict[str, Any], *, what: str = "; wait until it ends, or end it first") -> str:
    """Return who holds the lease of the run in `store`, and until when, in words."""
    until = time.strftime("%H:%M:%S UTC", time.gmtime(float(document.get("expires") or 0.0)))
    held = one_line(f"run {store_name(store)} is held by the driver {document.get('holder')}")
    return f"{held}, until {until} if it isn't renewed{what}"


def check_token(store: Store, token: str) -> None:
    """Refuse what a driver or a worker does after another driver has acquired the lease: workers may outlive theirs.

    A lease that has only expired is no reason: the next driver resumes from a commit that is made before it looks. Nor
    is one of a lower number: a renewal that came late, where the storage ignores conditions.

    Raises:
        LeaseLostError: the lease is another driver's than the one with this `token`; "" is no driver's.
    """
    document = read(store)
    if document and token not in ("", token_of(document)) and number_of(document) >= int(token.rpartition(" ")[2]):
        holder = one_line(document.get("holder"))
        raise LeaseLostError(f"the driver {holder} has taken over the run: this worker belongs to a former driver")


def check_not_held(store: Store) -> None:
    """Check that no other driver works on the run in `store`; write nothing.

    Raises:
        LeaseHeldError: one has its lease.
    """
    document = read(store)
    free = document is None or is_free(document) or is_ahead(document)  # `acquire` finds out whether it is renewed
    if document is not None and not free and not is_held_by(document, this_process()):
        raise LeaseHeldError(describe(store, document))


def is_held(store: Store) -> bool:
    """Return whether a driver has the lease of the run in `store`."""
    return not is_free(read(store))


@contextmanager
def taking(store: Store) -> Iterator[bool]:
    """Announce that this process is about to write the lease. Yield whether nobody else is.

    Of two that write an object of their own and then look for others', at least one sees the other. That needs no
    conditional write, which some S3 servers ignore and others grant to several writers at once. Who sees another
    does not write, and tries again a while later.
    """
    key = f"{TAKERS}/{uuid.uuid4().hex}"
    store.put(key, b"{}")
    try:
        entries = {f"{TAKERS}/{entry.key}": entry for entry in store.list(TAKERS)}
        now = entries[key].modified if key in entries else 0.0  # by the storage's clock
        others = [e for one, e in entries.items() if one != key and e.size and e.modified > now - STALE_S]
        yield not others
    finally:
        once = try_once(store)
        # Each by itself: if neither succeeds, it counts for STALE_S. A bucket's policy may allow no deletion.
        with suppress(StorageError):
            once.put(key, b"")  # does not count any more
        with suppress(StorageError):
            once.delete(key)
