"""Errors of S3 in words for users: what failed, where (bucket and endpoint), what to do. Never a secret."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

from trainer_app.errors import (
    AccessDeniedError,
    BucketMissingError,
    InputError,
    NotFoundError,
    StorageError,
    StorageUnavailableError,
)
from trainer_app.redact import redact_text
from trainer_app.storage.s3_client import forget_credentials

KEYS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE) in the environment"
_WRONG_KEYS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "InvalidClientTokenId", "InvalidSecurity"}
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"}
_DENIED = {"AccessDenied", "AllAccessDisabled", "AccountProblem", "Forbidden", "403", "401", "Unauthorized"}
_NO_KEY = {"NoSuchKey", "NotFound", "404"}
_REGION = {"AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException", "301"}
# What passes among the answers below 500: a body cut on its way, parts that a restarted server has lost, a wrong clock
_PASSES = {"RequestTimeout", "RequestTimeTooSkewed", "BadDigest", "IncompleteBody", "NoSuchUpload", "InvalidPart"}
_PASSES |= {"OperationAborted", "ConditionalRequestConflict", "SlowDown", "Throttling", "TooManyRequests"}
_SECRETS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN")


@dataclass(frozen=True)
class ObjectLocation:
    """The bucket, prefix and server of a request, as messages name them."""

    bucket: str
    prefix: str
    endpoint: str | None

    @property
    def server(self) -> str:
        """The server's URL without secrets, or AWS S3."""
        endpoint = self.endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        return clean_message(endpoint) if endpoint else "AWS S3 (no AWS_ENDPOINT_URL is set)"

    def format_key(self, key: str) -> str:
        """Return `s3://bucket/prefix/key at <server>`."""
        path = "/".join(part for part in (self.bucket, self.prefix, key) if part)
        return f"s3://{path} at {self.server}"


@contextmanager
def translate_errors(location: ObjectLocation, verb: str, key: str, connect: Callable[[], Any]) -> Iterator[Any]:
    """Yield a client; turn what boto3 raises into errors with what failed, where, and what to do.

    Args:
        verb, key: what is done, such as read, to which object.
        connect: makes the client.

    Raises:
        StorageError: the server refused it (AccessDeniedError and NotFoundError are kinds of it) or did not answer.
        InputError: the endpoint is not a URL.
    """
    try:
        yield connect()
    except Exception as error:
        known = _explain(location, f"can't {verb} {location.format_key(key)}", error)
        if known is None:
            raise
        if isinstance(known, AccessDeniedError | StorageUnavailableError):
            forget_credentials()
        raise known from error


def error_code(error: BaseException) -> str:
    """Return S3's error code, `""` if the server sent none."""
    response = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def clean_message(text: str) -> str:
    """Return one line of up to 300 characters, without user:password@ of a URL or the environment's secrets."""
    text = redact_text(text)
    for name in _SECRETS:
        if (value := os.environ.get(name)) and len(value) > 3:
            text = text.replace(value, "***")
    return " ".join(text.split())[:300]


def _explain(location: ObjectLocation, what: str, error: Exception) -> Exception | None:
    from boto3.exceptions import RetriesExceededError, S3UploadFailedError
    from botocore.exceptions import BotoCoreError, ClientError

    if isinstance(error, S3UploadFailedError) and isinstance(error.__context__, Exception):
        error = error.__context__  # boto3 hides the ClientError in a text
    if isinstance(error, RetriesExceededError) and isinstance(error.last_exception, Exception):
        error = error.last_exception  # of a download whose body was cut each time
    if isinstance(error, ClientError):
        return _refused(location, what, error)
    if isinstance(error, BotoCoreError):
        return _no_answer(location, what, error)
    if isinstance(error, ValueError) and "endpoint" in str(error).lower():
        return InputError(f"{what}: {clean_message(str(error))}; an endpoint is http://host:port or https://host")
    if _is_broken_answer(error):
        return StorageUnavailableError(
            f"{what}: {location.server} broke off, or its answer can't be read: {clean_message(str(error))}"
        )
    return None


def _is_broken_answer(error: Exception) -> bool:
    """Return whether it is what botocore passes on of a connection or a body, such as a proxy's page for an answer."""
    from botocore.parsers import ResponseParserError
    from s3transfer.exceptions import S3DownloadFailedError  # type: ignore[import-untyped]
    from urllib3.exceptions import HTTPError

    broken = (ResponseParserError, S3DownloadFailedError, HTTPError, HTTPException)
    return isinstance(error, (*broken, ConnectionError, TimeoutError, ssl.SSLError))


def _refused(location: ObjectLocation, what: str, error: Any) -> StorageError:
    code = error_code(error)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    if code == "NoSuchBucket":
        return BucketMissingError(
            f"{what}: there is no bucket {location.bucket!r}; create it or correct storage.uri "
            "(and AWS_ENDPOINT_URL, if the bucket is on another server)"
        )
    if code in _NO_KEY:
        return NotFoundError(f"{what}: there is no such object")
    if "AssumeRole" in str(error.operation_name) and code not in _EXPIRED | _DENIED:
        return StorageUnavailableError(f"{what}: the credentials' service refused them ({code}); {KEYS}")
    if code in _WRONG_KEYS:
        return AccessDeniedError(f"{what}: the server doesn't accept these keys ({code}); {KEYS}")
    if code in _EXPIRED:
        return StorageUnavailableError(
            f"{what}: the credentials have expired ({code}); {KEYS}, with a fresh AWS_SESSION_TOKEN"
        )
    if code in _DENIED or (status in (401, 403) and code not in _PASSES):
        return AccessDeniedError(
            f"{what}: access denied ({code}); {KEYS}, of a user who may get, put, delete "
            f"and list in {location.bucket!r}"
        )
    if code in _REGION:
        return StorageError(f"{what}: the bucket is in another region ({code}); set AWS_REGION to it")
    if code == "RequestTimeTooSkewed":
        return StorageUnavailableError(
            f"{what}: this machine's clock is wrong by more than the server allows ({code}); set it"
        )
    detail = clean_message(str(error.response.get("Error", {}).get("Message", "")))
    passes = code in _PASSES or (status or 500) in (408, 409, 425, 429) or ((status or 500) >= 500 and status != 501)
    kind = StorageUnavailableError if passes else StorageError
    return kind(f"{what}: the server answered {code or status}{': ' if detail else ''}{detail}")


def _no_answer(location: ObjectLocation, what: str, error: Exception) -> Exception:
    from botocore import exceptions as boto

    if isinstance(error, (boto.CredentialRetrievalError, boto.MetadataRetrievalError)):
        return StorageUnavailableError(f"{what}: the credentials can't be fetched: {clean_message(str(error))}; {KEYS}")
    if isinstance(error, (boto.NoCredentialsError, boto.PartialCredentialsError)):
        return AccessDeniedError(f"{what}: no complete credentials were found; {KEYS}")
    if isinstance(error, boto.ProfileNotFound):
        return AccessDeniedError(f"{what}: {clean_message(str(error))}; correct AWS_PROFILE or {KEYS}")
    if isinstance(error, boto.SSLError):
        kind = StorageError if "verif" in str(error).lower() else StorageUnavailableError
        return kind(f"{what}: {clean_message(str(error))}; for a CA of your own set AWS_CA_BUNDLE to its file")
    if isinstance(error, boto.ProxyConnectionError):
        return StorageUnavailableError(
            f"{what}: no connection to the proxy of HTTP_PROXY or HTTPS_PROXY; correct it, or set NO_PROXY"
        )
    if isinstance(error, (boto.EndpointConnectionError, boto.ConnectTimeoutError, boto.ConnectionError)):
        return StorageUnavailableError(
            f"{what}: no connection to {location.server}; is it running and reachable from here? The address comes "
            "from AWS_ENDPOINT_URL or endpoint_override in storage.uri"
        )
    if isinstance(error, (boto.ReadTimeoutError, boto.HTTPClientError)):
        return StorageUnavailableError(
            f"{what}: {location.server} did not answer in time; try again ({type(error).__name__})"
        )
    if isinstance(error, (boto.IncompleteReadError, boto.FlexibleChecksumError)):
        return StorageUnavailableError(f"{what}: the answer of {location.server} was cut: {clean_message(str(error))}")
    return StorageError(f"{what}: {clean_message(str(error))}")
