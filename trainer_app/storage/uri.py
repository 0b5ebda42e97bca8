"""From a storage URI to a store."""

from __future__ import annotations

from dataclasses import astuple
from os.path import normpath
from pathlib import Path
from urllib.parse import unquote

from trainer_app.errors import InputError
from trainer_app.redact import redact_text
from trainer_app.storage.base import Store
from trainer_app.storage.folder import FolderStore
from trainer_app.storage.s3 import S3Store
from trainer_app.storage_uri import FolderUri, StorageUriError, parse_scheme, parse_storage_uri


def open_store(uri: str, *, endpoint: str | None = None) -> Store:
    """Open the store of a storage URI. Nothing is read or written yet.

    Args:
        uri: see `parse_storage_uri`; a relative folder or `~` is made absolute now.
        endpoint: the S3 server, in place of the URI's. Without either, `AWS_ENDPOINT_URL` or AWS itself.

    Raises:
        InputError: the URI is not allowed.
    """
    try:
        location = parse_storage_uri(uri, endpoint=endpoint)
    except StorageUriError as e:
        raise InputError(f"storage {redact_text(uri)!r}: {e}") from None
    return FolderStore(_absolute(location.path)) if isinstance(location, FolderUri) else S3Store(*astuple(location))


def split_uri(uri: str) -> tuple[str, str]:
    """Return `(storage URI, run)` of a URI or path of a run: the last part of its path is the run's name.

    Raises:
        InputError: a URI without a run's name.
    """
    if parse_scheme(uri):
        base, mark, query = uri.partition("?")
        parent, _, name = base.rstrip("/").rpartition("/")
        if not parse_scheme(f"{parent}/") or parent.endswith("/"):
            raise InputError(f"storage {redact_text(uri)!r}: no run's name in it; it is .../<run>")
        return f"{parent}{mark}{query}", unquote(name)
    parent, _, name = _absolute(uri).rpartition("/")
    return parent or "/", name


def _absolute(path: str) -> str:
    # not resolve(): a link may lead elsewhere on another machine that has the same path
    return normpath(Path(path).expanduser().absolute())
