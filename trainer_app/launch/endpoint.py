"""A storage's endpoint, before anything is sent to it: whether it may get requests that are signed, and answers."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from trainer_app.errors import InputError, StorageError
from trainer_app.launch import submitted
from trainer_app.launch.kube import Kube
from trainer_app.storage_uri import FolderUri, StorageUriError, parse_storage_uri

CONNECT_S: Final = 3.0
VARIABLES: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_PORTS: Final = {"https": 443, "http": 80}
# S3's own hosts: others of amazonaws.com are anybody's, such as execute-api and compute.
_S3: Final = re.compile(
    r"([\w-]+\.){0,2}s3\.[a-z]+(-[a-z]+)+-\d\.vpce\.amazonaws\.com"
    r"|s3(-[a-z0-9-]+)?(\.dualstack)?(\.[a-z]+(-[a-z]+)+-\d+)?\.amazonaws\.com(\.cn)?"
)


def check_named(kube: Kube, run: str, uri: str, endpoint: str, secret: str, *, named: Iterable[str | None]) -> None:
    """Check that the endpoint of a run's storage is one that the user or the cluster's own objects name.

    A RayJob's annotations are written by whoever creates RayJobs: requests to an endpoint of theirs would be signed
    with this user's keys.

    Args:
        uri, endpoint: as the RayJob has them.
        secret: the Secret with the keys.
        named: endpoints of the command line and of that Secret.

    Raises:
        InputError: neither those, this machine's environment, nor the run's own ConfigMap name it.
    """
    known = {url.rstrip("/") for url in (*named, *(os.environ.get(name) for name in VARIABLES)) if url}
    for url in _endpoints(uri, endpoint):
        if url.rstrip("/") in known or _is_aws(url):
            continue
        own = submitted.read_storage(kube, run)
        if own and url in _endpoints(own.uri, own.endpoint):
            continue
        where = f"Secret {secret} (key AWS_ENDPOINT_URL)" if secret else "AWS_ENDPOINT_URL"
        raise InputError(
            f"run {run} has its storage at {url}, which neither your values nor the cluster's own objects name: no "
            f"request is signed for it; if you trust it, name it: --endpoint URL, --values FILE, or in {where}"
        )


def _endpoints(uri: str, endpoint: str) -> list[str]:
    """Return the endpoints that a storage's URI and its annotation name."""
    try:
        parsed = parse_storage_uri(uri)
    except StorageUriError as error:
        raise InputError(f"storage URI {uri!r}: {error}") from error
    override = None if isinstance(parsed, FolderUri) else parsed.endpoint
    return [url for url in (override, endpoint) if url]


def _is_aws(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "https" and bool(_S3.fullmatch(parts.hostname or ""))


def check_answers(endpoint: str) -> None:
    """Connect once, before boto3 tries three times: 3 s instead of 15.

    Raises:
        StorageError: nothing answers.
    """
    parts = urlsplit(endpoint)
    if not parts.hostname or (getproxies().get(parts.scheme) and not proxy_bypass(parts.hostname)):
        return
    try:
        socket.create_connection((parts.hostname, parts.port or _PORTS.get(parts.scheme, 80)), CONNECT_S).close()
    except OSError as error:
        raise StorageError(
            f"the storage's endpoint {endpoint} does not answer from here ({error}); correct storage.endpoint, or give "
            "its address from this machine: --endpoint URL"
        ) from error
