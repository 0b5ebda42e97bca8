"""A store that writes for one acquisition of a run's lease: who was replaced writes nothing over its successor's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import Final

from trainer_app.errors import AlreadyExistsError, ObjectChangedError, StorageUnavailableError
from trainer_app.run.lease_file import check_token
from trainer_app.storage import Entry, RetryingStore, Store, Unfinished
from trainer_app.storage.base import Names

SHARED: Final = (".json", ".yaml")  # what several attempts write under one key; other keys have the attempt's number
TRIES: Final = 20


@dataclass(frozen=True)
class FencedStore:
    """A store whose writes raise LeaseLostError once another driver has the run's lease. See `Store` for the methods.

    A record is written in place of the one that was there when the lease was looked at: a write that arrives after
    the next driver's is refused by the storage.

    Args:
        inner: of the run's folder, or of a folder in it.
        run_store: of the run's folder, with its lease.
        token: that of the lease's acquisition.
    """

    inner: Store
    run_store: Store
    token: str

    @property
    def uri(self) -> str:
        return self.inner.uri

    def child(self, prefix: str) -> FencedStore:
        return replace(self, inner=self.inner.child(prefix))

    def put(self, key: str, data: bytes, *, create: bool = False, if_match: str | None = None) -> None:
        if create or if_match is not None or not key.endswith(SHARED):
            check_token(self.run_store, self.token)
            self.inner.put(key, data, create=create, if_match=if_match)
            return
        for _ in range(TRIES):
            tag = self.inner.tag(key)
            check_token(self.run_store, self.token)
            try:
                self.inner.put(key, data, create=tag is None, if_match=tag)
                return
            except (AlreadyExistsError, ObjectChangedError):
                continue  # by the next driver, or by another process of this one
        raise StorageUnavailableError(f"{self.uri}/{key} was changed by others {TRIES} times while it was written")

    def tag(self, key: str) -> str | None:
        return self.inner.tag(key)

    def put_file(self, key: str, path: str | PathLike[str]) -> None:
        check_token(self.run_store, self.token)
        self.inner.put_file(key, path)

    def get(self, key: str, *, start: int = 0) -> bytes:
        return self.inner.get(key, start=start)

    def get_file(self, key: str, path: str | PathLike[str]) -> None:
        self.inner.get_file(key, path)

    def exists(self, key: str) -> bool:
        return self.inner.exists(key)

    def list(self, prefix: str = "") -> Iterator[Entry]:
        return self.inner.list(prefix)

    def list_folders(self, prefix: str = "") -> Names:
        return self.inner.list_folders(prefix)

    def delete(self, key: str) -> None:
        check_token(self.run_store, self.token)
        self.inner.delete(key)

    def delete_prefix(self, prefix: str) -> None:
        check_token(self.run_store, self.token)
        self.inner.delete_prefix(prefix)

    def list_unfinished(self) -> Sequence[Unfinished]:
        return self.inner.list_unfinished()

    def discard(self, unfinished: Unfinished) -> None:
        check_token(self.run_store, self.token)
        self.inner.discard(unfinished)


def fenced(run_store: Store, token: str) -> Store:
    """Return the store of a run that writes only while no other driver has its lease; the same one if `token` is ""."""
    if not token or isinstance(run_store, FencedStore):
        return run_store
    if isinstance(run_store, RetryingStore):
        return replace(run_store, inner=fenced(run_store.inner, token))
    return FencedStore(run_store, run_store, token)
