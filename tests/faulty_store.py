"""A store that fails as a test says: before a request reaches the storage, or after, so that its answer is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from trainer_app.errors import StorageUnavailableError
from trainer_app.storage import Store

SILENT = StorageUnavailableError("no connection to http://s3")
METHODS = ("tag", "put", "put_file", "get", "get_file", "exists", "list", "list_folders", "delete", "delete_prefix")


@dataclass
class Faults:
    """What goes wrong: `next` are the errors of the coming requests, None for success; `always` that of all others.

    `lost`: the request succeeds first. `matches` says which requests (method, key) are concerned.
    """

    next: list[Exception | None] = field(default_factory=list)
    always: Exception | None = None
    lost: bool = False
    matches: Callable[[str, str], bool] = lambda method, key: True
    requests: list[tuple[str, str]] = field(default_factory=list)

    def fail(self, *errors: Exception | None) -> None:
        self.next = list(errors)


class FaultyStore:
    """A store with faults, which its children share."""

    def __init__(self, inner: Store, faults: Faults | None = None, prefix: str = "") -> None:
        self.inner, self.faults, self.prefix = inner, faults or Faults(), prefix
        self.uri = inner.uri

    def child(self, prefix: str) -> FaultyStore:
        return FaultyStore(self.inner.child(prefix), self.faults, f"{self.prefix}{prefix}/")

    def list_unfinished(self) -> Any:
        return self._request("list_unfinished")

    def __getattr__(self, method: str) -> Any:
        if method not in METHODS:
            raise AttributeError(method)
        return partial(self._request, method)

    def _request(self, method: str, key: str = "", *args: Any, **options: Any) -> Any:
        faults, full = self.faults, f"{self.prefix}{key}"
        faults.requests.append((method, full))
        error = None
        if faults.matches(method, full):
            error = faults.next.pop(0) if faults.next else faults.always
        if error is not None and not faults.lost:
            raise error
        named = () if method == "list_unfinished" else (key,)
        answer = getattr(self.inner, method)(*named, *args, **options)
        if error is not None:
            raise error
        return answer


def keys(store: Store) -> Iterable[str]:
    """The keys of all objects."""
    return [entry.key for entry in store.list()]
