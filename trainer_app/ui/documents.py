"""The documents of runs, made again only when something in their folders has changed."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, cast

from trainer_app.records import to_json
from trainer_app.report.document import report_document
from trainer_app.storage import Store
from trainer_app.ui.unchanged import Unchanged

KEPT: Final = 8  # documents; a sweep of 1,000 trials of 100 epochs has 10 MB

REST: Final = 3.0  # after a look that took a second nobody looks for three: a quarter of one core
LONGEST_REST_S: Final = 60.0


@dataclass(frozen=True)
class Made:
    """A document as JSON, the `tag` of what it was made from, and until when nobody looks for changes."""

    tag: str
    data: bytes
    until: float = 0.0  # on the monotonic clock


class Documents:
    """Makes documents for requests, one at a time for the same runs."""

    def __init__(self, storage: Store) -> None:
        self.storage: Store = cast(Store, Unchanged(storage))
        self._made: OrderedDict[tuple[str, ...], Made] = OrderedDict()
        self._lock = threading.Lock()
        self._locks: dict[tuple[str, ...], threading.Lock] = {}

    def get(self, names: Sequence[str], known: str = "") -> Made:
        """Return the document of some runs; of runs that change all the time one that is a little old.

        Args:
            names: of runs in the storage.
            known: the tag that the asker has: if it is still right, `data` may be empty.

        Raises:
            NotFoundError: there is no such run. StorageError: no answer.
        """
        key = tuple(names)
        with self._lock:
            lock, made = self._locks.setdefault(key, threading.Lock()), self._made.get(key)
        if made is not None and (time.monotonic() < made.until or lock.locked()):
            return made
        try:
            with lock:
                return self._get(key, known)
        finally:
            with self._lock:
                if key not in self._made:  # there is no such run, or the asker has its document
                    self._locks.pop(key, None)

    def _get(self, key: tuple[str, ...], known: str) -> Made:
        made, began = self._made.get(key), time.monotonic()
        if made is not None and began < made.until:  # another asker had it made meanwhile
            return made
        tag = self._tag(key)
        if tag == known and made is None:
            return Made(tag, b"")
        if made is None or made.tag != tag:
            made = Made(tag, to_json(report_document([(self.storage, name) for name in key])))
        now = time.monotonic()
        made = replace(made, until=now + min(REST * (now - began), LONGEST_REST_S))
        self._keep(key, made)
        return made

    def _keep(self, key: tuple[str, ...], made: Made) -> None:
        with self._lock:
            self._made[key] = made
            self._made.move_to_end(key)
            while len(self._made) > KEPT:
                old, _ = self._made.popitem(last=False)
                self._locks.pop(old, None)

    def _tag(self, names: Sequence[str]) -> str:
        """Return a digest of the listings of the runs' folders, less the lease, which changes all the time."""
        digest = hashlib.sha256()
        for name in names:
            for entry in self.storage.child(name).list():
                if entry.key != "lease.json":
                    digest.update(f"{name}/{entry.key} {entry.size} {entry.modified}\n".encode(errors="replace"))
        return digest.hexdigest()[:32]
