"""Storage URIs and the keys below them: the one parser that decides what is allowed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from trainer_app.redact import is_secret_name

ALLOWED = (
    "a folder, file:///folder, s3://bucket/prefix or s3://bucket/prefix?endpoint_override=http://host:port&region=..."
)
OPTIONS = ("endpoint_override", "region", "scheme", "force_virtual_addressing")  # pyarrow's names
# For editors, by the run file's JSON Schema: which scheme may stand there, and no credentials before a bucket's name.
SCHEMA_PATTERN = r"^([Ss]3[Aa]?://[^/?@:]{3,}([/?]|$)|[Ff][Ii][Ll][Ee]://(localhost)?/|(?![A-Za-z][A-Za-z0-9+.-]*://))"
TEMP = ".tmp-"  # files of writes in progress begin with this: never listed, never a key
# S3 allows 1024 bytes a key, most file systems 255 a name: the temp names need 30 of those.
MAX_KEY_BYTES = 1024
MAX_NAME_BYTES = 220
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")


class StorageUriError(ValueError):
    """A storage URI that is not allowed: `message` says why, `allowed` what is."""

    def __init__(self, message: str, allowed: str = f"allowed: {ALLOWED}") -> None:
        super().__init__(message, allowed)
        self.message, self.allowed = message, allowed

    def __str__(self) -> str:
        return f"{self.message}; {self.allowed}"


@dataclass(frozen=True)
class FolderUri:
    """A folder of this machine; `path` may be relative or begin with `~`."""

    path: str


@dataclass(frozen=True)
class S3Uri:
    """A prefix of a bucket."""

    bucket: str
    prefix: str = ""  # or a/b
    endpoint: str | None = None  # http://host:port; None is AWS_ENDPOINT_URL, the profile's endpoint, or AWS
    region: str | None = None  # None is AWS_REGION, AWS_DEFAULT_REGION, the profile's region, or us-east-1
    virtual: bool = False  # addresses bucket.host in place of host/bucket

    @property
    def uri(self) -> str:
        """What `parse_storage_uri` reads back to this."""
        path = quote("/".join(part for part in (self.bucket, self.prefix) if part), safe="/=+,@!~")
        options = [("endpoint_override", self.endpoint), ("region", self.region)]
        options += [("force_virtual_addressing", "true" if self.virtual else None)]
        query = "&".join(f"{name}={quote(value, safe=':/')}" for name, value in options if value)
        return f"s3://{path}" + (f"?{query}" if query else "")


def parse_storage_uri(uri: str, *, endpoint: str | None = None) -> FolderUri | S3Uri:
    """Read a storage URI.

    Args:
        uri: a folder, `file:///folder`, or `s3://bucket/prefix[?endpoint_override=http://host:port&region=name]`,
            percent-encoded as for pyarrow; `s3a://` is `s3://`.
        endpoint: the S3 server, in place of `endpoint_override`.

    Raises:
        StorageUriError: a URI that is not allowed, or one with credentials in it.
    """
    scheme = parse_scheme(uri)
    if scheme in ("s3", "s3a"):
        return _parse_s3(uri, endpoint)
    if endpoint is not None:
        raise StorageUriError("an endpoint needs an S3 URI", "allowed with it: s3://bucket/prefix only")
    if scheme == "file":
        parts = urlsplit(uri)
        if parts.netloc not in ("", "localhost") or not parts.path or parts.query:
            raise StorageUriError("a file URI is file:///folder, with three slashes")
        return FolderUri(unquote(parts.path))
    if scheme:
        raise StorageUriError(f"unknown kind {scheme!r}")
    if not uri.strip():
        raise StorageUriError("the URI is empty")
    return FolderUri(uri)


def parse_scheme(uri: str) -> str:
    """Return the part before `://` in lower case, "" if there is none."""
    match = _SCHEME.match(uri)
    return match[1].lower() if match else ""


def is_s3_uri(uri: str) -> bool:
    """Whether the URI names an object storage, which every machine reaches, and not a folder or volume."""
    return parse_scheme(uri) in ("s3", "s3a")


def join_uri(uri: str, path: str) -> str:
    """Return the URI of a folder below this one; an S3 URI's options stay at its end."""
    base, mark, options = uri.partition("?") if is_s3_uri(uri) else (uri, "", "")
    return f"{base.rstrip('/')}/{path}{mark}{options}"


def _parse_s3(uri: str, endpoint: str | None) -> S3Uri:
    # urlsplit would cut a prefix at "#", which S3 allows in keys
    location, _, query = uri.partition("?")
    bucket, _, prefix = location.split("://", 1)[1].partition("/")
    options = _parse_options(query)
    if "@" in bucket or ":" in bucket:
        raise _credentials()
    if endpoint is None and (override := options.get("endpoint_override")):
        endpoint = override if "://" in override else f"{options.get('scheme', 'https')}://{override}"
    if endpoint is not None:
        check_endpoint(endpoint)
    if not _BUCKET.fullmatch(bucket):
        raise StorageUriError(f"{bucket!r} is not a bucket's name" if bucket else "has no bucket's name")
    virtual = options.get("force_virtual_addressing", "").lower() in ("true", "1")
    prefix = unquote(prefix).strip("/")
    if prefix and (problem := find_key_problem(prefix)):
        raise StorageUriError(f"prefix {prefix!r} can't be used: {problem}")
    return S3Uri(bucket, prefix, endpoint.rstrip("/") if endpoint else None, options.get("region"), virtual)


def _parse_options(query: str) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    for name in options:
        if is_secret_name(name):
            raise _credentials()
        if name not in OPTIONS:
            raise StorageUriError(f"unknown option {name!r}", f"allowed: {', '.join(OPTIONS)}")
    return options


def check_endpoint(endpoint: str) -> None:
    """Raise StorageUriError if an endpoint is not http://host:port or https://host."""
    if "@" in endpoint:
        raise _credentials()
    try:
        parts = urlsplit(endpoint)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:  # the port is no number, the host no address
        good = False
    if not good or "?" in endpoint or _CONTROL.search(endpoint):
        raise StorageUriError(f"endpoint {endpoint!r} is not http://host:port or https://host", "correct it")


def _credentials() -> StorageUriError:
    return StorageUriError(
        "credentials don't belong in a URI, which ends up in logs and process lists",
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment (on Kubernetes from a Secret)",
    )


def find_key_problem(key: str) -> str:
    """Return why an object can't have this key, "" if it can."""
    parts = key.split("/")
    if not key:
        return "it is empty"
    if key.startswith("/"):
        return "it is absolute"
    if any(part in ("", ".", "..") for part in parts):
        return "it has an empty part, '.' or '..'"
    if _CONTROL.search(key):
        return "it has a control character"
    if "\\" in key:
        return "it has a backslash, which some S3 servers take for a slash"
    if any(part.startswith(TEMP) for part in parts):
        return f"names that begin with {TEMP!r} are kept for writes in progress"
    if len(key.encode(errors="replace")) > MAX_KEY_BYTES:
        return f"it is longer than {MAX_KEY_BYTES} bytes"
    if any(len(part.encode(errors="replace")) > MAX_NAME_BYTES for part in parts):
        return f"a part of it is longer than {MAX_NAME_BYTES} bytes"
    return ""
