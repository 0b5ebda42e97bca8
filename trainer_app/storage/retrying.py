"""A store whose reads and writes wait for a storage that does not answer: for the processes of a run.

Verbs that only look at a run open a plain store, which fails in seconds.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from os import PathLike
from typing import TypeVar

from trainer_app.errors import (
    AccessDeniedError,
    AlreadyExistsError,
    BucketMissingError,
    ObjectChangedError,
    StorageError,
    StorageUnavailableError,
)
from trainer_app.storage.base import Entry, Names, Store, Unfinished
from trainer_app.storage.uri import open_store

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 10.0
SAY_AFTER_S = 2.0  # the storage's own retries and one of ours pass unsaid
KEY = "failure.storage_timeout_s"

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_accesses: dict[str, Access] = {}
_say: list[Callable[[str], None]] = [_log.warning]
_asking: set[int | None] = set()  # threads, by their number, that wait for an answer


@dataclass
class Access:
    """What this process knows of a storage: whether it ever answered and took a write, and since when it does not.

    `since` is on the monotonic clock, None while the storage answers.
    """

    answered: bool = False
    written: bool = False
    since: float | None = None
    said: bool = False

    def may_pass(self, error: StorageError, *, deleting: bool) -> bool:
        """Return whether the same request may succeed later; what is refused may only after a write that was not."""
        if isinstance(error, AccessDeniedError | BucketMissingError):
            return self.written and not deleting
        return isinstance(error, StorageUnavailableError)

    def note_failure(self, error: StorageError, timeout_s: float) -> float:
        """Return since when the storage does not answer; say so once."""
        now = time.monotonic()
        since = self.since = now if self.since is None else self.since
        if not self.said and now - since >= SAY_AFTER_S:
            self.said = True
            _say[-1](f"{error}; waiting for the storage, up to {timeout_s:g} s ({KEY})")
        return since

    def note_answer(self) -> None:
        """Note that the storage answers; say so if its silence was said."""
        since, said = self.since, self.said
        self.answered, self.since, self.said = True, None, False
        if said and since is not None:
            _say[-1](f"the storage answers again, after {time.monotonic() - since:.0f} s")


@dataclass(frozen=True)
class RetryingStore:
    """A store that tries again, with longer and longer waits. See `Store` for the methods.

    Args:
        timeout_s: for how long a storage may be silent.
        patient: else each request is tried once, and what came of it is noted in `access`.
    """

    inner: Store
    timeout_s: float
    access: Access
    patient: bool = True

    @property
    def uri(self) -> str:
        return self.inner.uri

    def child(self, prefix: str) -> RetryingStore:
        return replace(self, inner=self.inner.child(prefix))

    def put(self, key: str, data: bytes, *, create: bool = False, if_match: str | None = None) -> None:
        tries = 0

        def write() -> None:
            nonlocal tries
            tries += 1
            try:
                self.inner.put(key, data, create=create, if_match=if_match)
            except (AlreadyExistsError, ObjectChangedError):
                if tries == 1 or self.inner.get(key) != data:
                    raise  # else an earlier try succeeded and its answer was lost

        self._try(write)
        self.access.written = True

    def put_file(self, key: str, path: str | PathLike[str]) -> None:
        self._try(lambda: self.inner.put_file(key, path))
        self.access.written = True

    def tag(self, key: str) -> str | None:
        return self._try(lambda: self.inner.tag(key))

    def get(self, key: str, *, start: int = 0) -> bytes:
        return self._try(lambda: self.inner.get(key, start=start))

    def get_file(self, key: str, path: str | PathLike[str]) -> None:
        self._try(lambda: self.inner.get_file(key, path))

    def exists(self, key: str) -> bool:
        return self._try(lambda: self.inner.exists(key))

    def list(self, prefix: str = "") -> Iterator[Entry]:
        return iter(self._try(lambda: tuple(self.inner.list(prefix))))

    def list_folders(self, prefix: str = "") -> Names:
        return self._try(lambda: self.inner.list_folders(prefix))

    def delete(self, key: str) -> None:
        self._try(lambda: self.inner.delete(key), deleting=True)

    def delete_prefix(self, prefix: str) -> None:
        self._try(lambda: self.inner.delete_prefix(prefix), deleting=True)

    def list_unfinished(self) -> Sequence[Unfinished]:
        return self._try(self.inner.list_unfinished)

    def discard(self, unfinished: Unfinished) -> None:
        self._try(lambda: self.inner.discard(unfinished), deleting=True)

    def _try(self, request: Callable[[], _T], *, deleting: bool = False) -> _T:
        with _asking_storage():
            return self._try_until_answered(request, deleting=deleting)

    def _try_until_answered(self, request: Callable[[], _T], *, deleting: bool) -> _T:
        began, wait = time.monotonic(), FIRST_WAIT_S
        while True:
            try:
                answer = request()
            except StorageError as error:
                if not self.access.may_pass(error, deleting=deleting):
                    self._note_refusal(error)
                    raise
                left = min(began, self.access.note_failure(error, self.timeout_s)) + self.timeout_s - time.monotonic()
                if not (self.patient and self.access.answered):
                    raise
                if left <= 0:
                    raise StorageUnavailableError(f"{error}; it was tried for {self.timeout_s:g} s ({KEY})") from error
                time.sleep(min(wait * random.uniform(0.5, 1.0), left))
                wait = min(2 * wait, LONGEST_WAIT_S)
            else:
                self.access.note_answer()
                return answer

    def _note_refusal(self, error: StorageError) -> None:
        if not isinstance(error, AccessDeniedError | StorageUnavailableError):
            self.access.note_answer()  # that there is no such object is an answer


@contextmanager
def _asking_storage() -> Iterator[None]:
    """Let this thread be known to wait for the storage, also between its tries."""
    thread = threading.get_ident()
    _asking.add(thread)
    try:
        yield
    finally:
        _asking.discard(thread)


def is_asking(thread: int | None) -> bool:
    """Return whether a thread waits for the answer of a storage; `thread` is its `ident`."""
    return thread in _asking


def open_retrying(uri: str, timeout_s: float, *, submitted: bool = False, begun: bool = False) -> RetryingStore:
    """Open a storage whose reads and writes wait until it answers.

    Args:
        timeout_s: for how long it may be silent.
        submitted: wait for its first answer too: nobody is there to correct an address.
        begun: this attempt has written to the storage, from another process: what is refused now may pass.
    """
    store = open_store(uri)
    access = _accesses.setdefault(store.uri, Access())
    access.answered, access.written = access.answered or submitted or begun, access.written or begun
    return RetryingStore(store, timeout_s, access)


def try_once(store: Store) -> Store:
    """Return the store without waiting, for who tries again by itself or can do without an answer."""
    return replace(store, patient=False) if isinstance(store, RetryingStore) else store


def patience_s(store: Store) -> float:
    """Return for how many seconds the store's storage may be silent."""
    return store.timeout_s if isinstance(store, RetryingStore) else 0.0


def say(text: str) -> None:
    """Say a line on the run's screen, or in the log."""
    _say[-1](text)


@contextmanager
def saying(say: Callable[[str], None]) -> Iterator[None]:
    """Say by `say`, in place of the log, that a storage is waited for."""
    _say.append(say)
    try:
        yield
    finally:
        _say.remove(say)
