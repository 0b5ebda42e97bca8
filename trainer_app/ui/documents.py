"""The documents of runs, made again only when something in their folders has changed."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from trainer_app.records import to_json
from trainer_app.report.document import report_document
from trainer_app.storage import Store

KEPT: Final = 8  # documents; a sweep of 1,000 trials of 100 epochs has 10 MB


@dataclass(frozen=True)
class Made:
    """A document as JSON, and the `tag` of what it was made from."""

    tag: str
    data: bytes


class Documents:
    """Makes documents for requests, one at a time for the same runs."""

    def __init__(self, storage: Store) -> None:
        self.storage = storage
        self._made: OrderedDict[tuple[str, ...], Made] = OrderedDict()
        self._lock = threading.Lock()
        self._locks: dict[tuple[str, ...], threading.Lock] = {}

    def get(self, names: Sequence[str], known: str = "") -> Made:
        """Return the document of some runs.

        Args:
            names: of runs in the storage.
            known: the tag that the asker has: if it is still right, `data` may be empty.

        Raises:
            NotFoundError: there is no such run. StorageError: no answer.
        """
        key = tuple(names)
        with self._lock:
            lock = self._locks.setdefault(key, threading.Lock())
        try:
            with lock:
                tag = self._tag(key)
                made = self._made.get(key)
                if tag == known and made is None:
                    return Made(tag, b"")
                if made is None or made.tag != tag:
                    made = Made(tag, to_json(report_document([(self.storage, name) for name in key])))
                self._keep(key, made)
            return made
        finally:
            with self._lock:
                if key not in self._made:  # there is no such run, or the asker has its document
                    self._locks.pop(key, None)

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
