"""From a storage URI to a store."""

from __future__ import annotations

import re
from os.path import normpath
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from trainer_app.errors import InputError
from trainer_app.redact import is_secret_name, redact_text
from trainer_app.storage.base import Store, check_prefix
from trainer_app.storage.folder import FolderStore
from trainer_app.storage.s3 import S3Store

ALLOWED = (
    "a folder, file:///folder, s3://bucket/prefix or s3://bucket/prefix?endpoint_override=http://host:port&region=..."
)
OPTIONS = ("endpoint_override", "region", "scheme", "force_virtual_addressing")  # pyarrow's names
_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")


def open_store(uri: str, *, endpoint: str | None = None) -> Store:
    """Opens a storage URI. Nothing is read or written yet.

    Args:
        uri: a folder (`~` and relative paths are made absolute now), `file:///folder`, or
            `s3://bucket/prefix[?endpoint_override=http://host:port&region=name]`, percent-encoded as for pyarrow.
        endpoint: the S3 server, in place of `endpoint_override`. Without either, `AWS_ENDPOINT_URL` or AWS itself.

    Raises:
        InputError: not a URI we know, or one with credentials in it.
    """
    scheme = _scheme(uri)
    if scheme in ("s3", "s3a"):
        return _open_s3(uri, endpoint)
    if endpoint is not None:
        raise InputError(f"storage {_show(uri)}: an endpoint goes with s3://bucket/prefix only")
    if scheme == "file":
        parts = urlsplit(uri)
        if parts.netloc not in ("", "localhost") or not parts.path or parts.query:
            raise InputError(f"storage {_show(uri)}: a file URI is file:///folder, with three slashes")
        return FolderStore(_absolute(unquote(parts.path)))
    if scheme:
        raise InputError(f"storage {_show(uri)}: unknown kind {scheme!r}; allowed: {ALLOWED}")
    if not uri.strip():
        raise InputError(f"storage: the URI is empty; allowed: {ALLOWED}")
    return FolderStore(_absolute(uri))


def split_uri(uri: str) -> tuple[str, str]:
    """`(storage URI, run)` of a full URI or path to a run: the last part of its path is the run's name."""
    if _scheme(uri):
        base, mark, query = uri.partition("?")
        parent, _, name = base.rstrip("/").rpartition("/")
        if not _scheme(f"{parent}/") or parent.endswith("/"):
            raise InputError(f"storage {_show(uri)}: no run's name in it; it is .../<run>")
        return f"{parent}{mark}{query}", unquote(name)
    parent, _, name = _absolute(uri).rpartition("/")
    return parent or "/", name


def _absolute(path: str) -> str:
    # not resolve(): a link may lead elsewhere on another machine that has the same path
    return normpath(Path(path).expanduser().absolute())


def _scheme(uri: str) -> str:
    match = _SCHEME.match(uri)
    return match[1].lower() if match else ""


def _open_s3(uri: str, endpoint: str | None) -> S3Store:
    # urlsplit would cut a prefix at "#", which S3 allows in keys
    location, _, query = uri.partition("?")
    bucket, _, prefix = location.split("://", 1)[1].partition("/")
    options = _options(uri, query)
    if "@" in bucket or ":" in bucket:
        raise _credentials(uri)
    if not _BUCKET.fullmatch(bucket):
        raise InputError(f"storage {_show(uri)}: {bucket!r} is no bucket's name; allowed: {ALLOWED}")
    if endpoint is None and (given := options.get("endpoint_override")):
        endpoint = given if "://" in given else f"{options.get('scheme', 'https')}://{given}"
    if endpoint is not None:
        _check_endpoint(uri, endpoint)
    virtual = options.get("force_virtual_addressing", "").lower() in ("true", "1")
    prefix = check_prefix(unquote(prefix).strip("/"))
    return S3Store(bucket, prefix, endpoint.rstrip("/") if endpoint else None, options.get("region"), virtual)


def _options(uri: str, query: str) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    for name in options:
        if is_secret_name(name):
            raise _credentials(uri)
        if name not in OPTIONS:
            raise InputError(f"storage {_show(uri)}: unknown option {name!r}; allowed: {', '.join(OPTIONS)}")
    return options


def _check_endpoint(uri: str, endpoint: str) -> None:
    parts = urlsplit(endpoint)
    if parts.username or parts.password:
        raise _credentials(uri)
    try:
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:  # a port that is no number
        good = False
    if not good or parts.query:
        raise InputError(f"storage {_show(uri)}: endpoint {endpoint!r} is not http://host:port or https://host")


def _credentials(uri: str) -> InputError:
    return InputError(
        f"storage {_show(uri)}: credentials don't belong in a URI, which ends up in logs and process lists; set "
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment (on Kubernetes from a Secret)"
    )


def _show(uri: str) -> str:
    return repr(redact_text(uri))
