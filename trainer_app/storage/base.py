"""What every store can do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Protocol

from trainer_app.errors import InputError
from trainer_app.storage_uri import find_key_problem

Names = list[str]  # `list` is a method of a store


@dataclass(frozen=True)
class Entry:
    """One object: `key` relative to what was listed, `size` in bytes, `modified` in unix seconds."""

    key: str
    size: int
    modified: float


@dataclass(frozen=True)
class Unfinished:
    """A write that was begun and did not end.

    Args:
        key: the object's; of a file the folder's, which is all that is known.
        size: in bytes, so far. modified: in unix seconds.
        live: whether its writer lives; None if the storage can't tell.
        name: what the storage calls it.
    """

    key: str
    size: int
    modified: float
    live: bool | None
    name: str


class Store(Protocol):
    """Objects under a URI. Every method raises `StorageError` or one of its kinds, with what, where and what to do.

    A prefix is a folder: `list("a")` gives the objects under `a/`, not those of `ab/`. Stores can be pickled and
    hold no credentials: those come from the environment of the process that uses the store.
    """

    @property
    def uri(self) -> str:
        """What `open_store` takes to open this store again."""

    def child(self, prefix: str) -> Store:
        """Return the store of a folder in this one."""

    def put(self, key: str, data: bytes, *, create: bool = False, if_match: str | None = None) -> None:
        """Write an object, whole or not at all.

        Args:
            create: overwrite no object; of several writers at once one wins. On S3 that holds as far as the server
                honours `If-None-Match: *`: AWS does, some others accept several writers.
            if_match: overwrite only the object that has this `tag`; of several writers at once one wins. On S3 as far
                as the server honours `If-Match`, in a folder as far as its file system has locks.

        Raises:
            AlreadyExistsError: with `create`, there is such an object; it stays as it is.
            ObjectChangedError: with `if_match`, the object has another tag, or is gone.
        """

    def tag(self, key: str) -> str | None:
        """Return what identifies the object's content, for `put`; None if there is no such object."""

    def put_file(self, key: str, path: str | PathLike[str]) -> None:
        """Write a file's content as an object, streaming, whole or not at all."""

    def get(self, key: str, *, start: int = 0) -> bytes:
        """Return the object's bytes.

        Args:
            start: how many bytes are left out at its begin; those that are left out are not sent.

        Raises:
            NotFoundError: there is no such object.
        """

    def get_file(self, key: str, path: str | PathLike[str]) -> None:
        """Stream the object to a local file, which is there whole or not at all.

        Raises:
            NotFoundError: there is no such object.
        """

    def exists(self, key: str) -> bool:
        """Return whether there is an object of this key; a folder is not one."""

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Return all objects under a folder, at any depth, sorted by key; none if there is no such folder."""

    def list_folders(self, prefix: str = "") -> Names:
        """Return the folders directly in a folder that hold at least one object, sorted.

        Some S3 servers (SeaweedFS) show one for a while after its last object is gone.
        """

    def delete(self, key: str) -> None:
        """Delete an object, if it exists."""

    def delete_prefix(self, prefix: str) -> None:
        """Delete all objects under a folder; `""` is the whole store."""

    def list_unfinished(self) -> Sequence[Unfinished]:
        """Return the writes of this store that were begun and did not end, whether their writers live or not."""

    def discard(self, unfinished: Unfinished) -> None:
        """Remove what an unfinished write has left."""


def store_name(store: Store) -> str:
    """Return the name of the store's folder: the last part of its URI."""
    return store.uri.partition("?")[0].rstrip("/").rpartition("/")[2]


def check_key(key: str, *, what: str = "key") -> str:
    """Return the key if an object can have it.

    Args:
        what: what it is called in the message.

    Raises:
        InputError: no object can have it.
    """
    if problem := find_key_problem(key):
        raise InputError(f"storage {what} {key!r} can't be used: {problem}")
    return key


def check_prefix(prefix: str) -> str:
    """Return a folder as `""` or `"a/b"`, without a slash at its end.

    Raises:
        InputError: no folder can have this name.
    """
    trimmed = prefix.removesuffix("/")
    return check_key(trimmed, what="prefix") if trimmed else ""
