"""One boto3 client for each endpoint, region and set of credentials of this process: the first takes 0.13 s."""

from __future__ import annotations

import os
import threading
from functools import lru_cache
from typing import Any

CONNECT_S, READ_S, ATTEMPTS = 5, 30, 3
_LOCK = threading.Lock()


def get_client(endpoint: str | None, region: str | None, *, virtual: bool = False) -> Any:
    """Return a boto3 client, which is thread-safe; credentials, profile, proxies and CA bundle as boto3 finds them.

    A changed `AWS_*` variable gives a new client, and so does a fork: two processes on one connection mix up answers.

    Args:
        endpoint: the server's URL; None for AWS_ENDPOINT_URL or AWS itself.
        region: None for that of the environment or the profile, else us-east-1.
        virtual: name the bucket in the host, and not in the path.
    """
    environment = hash(frozenset((k, v) for k, v in os.environ.items() if k.startswith("AWS_")))
    with _LOCK:
        return _make_client(endpoint, region, virtual, environment, os.getpid())


def forget_credentials() -> None:
    """Make clients anew from now on: files, metadata services and roles are asked again for credentials."""
    with _LOCK:
        _make_client.cache_clear()


@lru_cache(maxsize=32)
def _make_client(endpoint: str | None, region: str | None, virtual: bool, environment: int, pid: int) -> Any:  # noqa: FBT001
    import boto3
    from botocore.config import Config

    session = boto3.session.Session()  # the default session isn't thread-safe
    style = {"addressing_style": "virtual"} if virtual else None  # else path style if an endpoint is given
    return session.client(
        "s3",
        endpoint_url=endpoint,
        # botocore reads AWS_DEFAULT_REGION only, every other SDK AWS_REGION
        region_name=region or os.environ.get("AWS_REGION") or session.region_name or "us-east-1",
        config=Config(
            connect_timeout=CONNECT_S,
            read_timeout=READ_S,
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            max_pool_connections=32,
            s3=style,
            # Since 1.36 boto3 sends a CRC32 trailer with each upload and asks for one with each download. Servers that
            # don't know it fail the request or store the trailer as content (older MinIO, SeaweedFS, Ceph, GCS).
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )
