"""Objects in a bucket of any S3 server."""

from __future__ import annotations

import base64
import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, cast

from trainer_app.errors import AlreadyExistsError, NotFoundError, ObjectChangedError, StorageError
from trainer_app.storage.base import Entry, Names, Unfinished, check_key, check_prefix
from trainer_app.storage.folder import temp_beside
from trainer_app.storage.s3_client import get_client
from trainer_app.storage.s3_errors import ObjectLocation, error_code, translate_errors
from trainer_app.storage_uri import S3Uri, find_key_problem

_PARALLEL = 16
_PART = 16 << 20
_NO_OBJECT = ("404", "NoSuchKey", "NotFound")
_REFUSED = ("PreconditionFailed", "412", "ConditionalRequestConflict", *_NO_OBJECT)
# A bucket's console shows a run's page, and no file that the run's project wrote, whatever its name.
_CONTENT_TYPES = {"report.html": {"ContentType": "text/html; charset=utf-8"}}


@dataclass(frozen=True)
class S3Store(S3Uri):
    """A store under a prefix of a bucket. See `Store` for the methods."""

    def child(self, prefix: str) -> S3Store:
        return S3Store(self.bucket, self._full(check_prefix(prefix)), self.endpoint, self.region, self.virtual)

    def put(self, key: str, data: bytes, *, create: bool = False, if_match: str | None = None) -> None:
        with self._s3("write", key) as s3:
            if create:
                self._put_if(s3, check_key(key), data, IfNoneMatch="*")
            elif if_match is not None:
                self._put_if(s3, check_key(key), data, IfMatch=if_match)
            else:
                _put(s3, self.bucket, self._full(check_key(key)), data, **_CONTENT_TYPES.get(key, {}))

    def tag(self, key: str) -> str | None:
        with self._s3("read", key) as s3:
            return _tag(s3, self.bucket, self._full(check_key(key)))

    def put_file(self, key: str, path: str | PathLike[str]) -> None:
        if not Path(path).is_file():
            raise NotFoundError(f"there is no file {os.fspath(path)} to write to {self._location.format_key(key)}")
        with self._s3("write", key) as s3:
            full = self._full(check_key(key))
            if Path(path).stat().st_size <= _PART:
                _put(s3, self.bucket, full, Path(path).read_bytes())
            else:
                s3.upload_file(os.fspath(path), self.bucket, full, Config=_transfer())

    def get(self, key: str, *, start: int = 0) -> bytes:
        with self._s3("read", key) as s3:
            return _read(s3, self.bucket, self._full(check_key(key)), start)

    def get_file(self, key: str, path: str | PathLike[str]) -> None:
        target = Path(path).absolute()
        with self._s3("read", key) as s3:
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                with temp_beside(target) as temp:
                    s3.download_file(self.bucket, self._full(check_key(key)), str(temp), Config=_transfer())
                    temp.replace(target)
            except OSError as error:
                if error.filename is None and error.errno is None:
                    raise  # not the disk: botocore's time-outs are OSErrors as well
                raise StorageError(f"can't write {target}: {error.strerror or error}") from error

    def exists(self, key: str) -> bool:
        with self._s3("read", key) as s3:
            return _tag(s3, self.bucket, self._full(check_key(key))) is not None

    def list(self, prefix: str = "") -> Iterator[Entry]:
        full = self._full(check_prefix(prefix))
        cut = len(full) + 1 if full else 0
        with self._s3("list", prefix) as s3:
            entries = [
                Entry(item["Key"][cut:], item["Size"], item["LastModified"].timestamp())
                for page in self._pages(s3, full)
                for item in page.get("Contents", ())
                if not find_key_problem(item["Key"][cut:])  # another program's: a "folder" of a console, a//b, ../c
            ]
        return iter(sorted(entries, key=lambda entry: entry.key))  # not every server sorts by bytes

    def list_folders(self, prefix: str = "") -> Names:
        full = self._full(check_prefix(prefix))
        with self._s3("list", prefix) as s3:
            pages = list(self._pages(s3, full, Delimiter="/"))
        folders = [item["Prefix"] for page in pages for item in page.get("CommonPrefixes", ())]
        names = (folder.removesuffix("/").rpartition("/")[2] for folder in folders)
        return sorted(name for name in names if not find_key_problem(name))

    def delete(self, key: str) -> None:
        with self._s3("delete", key) as s3:
            s3.delete_object(Bucket=self.bucket, Key=self._full(check_key(key)))

    def delete_prefix(self, prefix: str) -> None:
        # One by one: the bulk call needs a checksum that some servers don't take (Google's has no such call at all).
        folder = self.child(prefix) if prefix else self
        with ThreadPoolExecutor(_PARALLEL) as pool:
            list(pool.map(folder.delete, [entry.key for entry in folder.list()]))

    def list_unfinished(self) -> Sequence[Unfinished]:
        cut = len(self.prefix) + 1 if self.prefix else 0
        with self._s3("list", "") as s3:
            pages = s3.get_paginator("list_multipart_uploads").paginate
            options = {"Prefix": f"{self.prefix}/"} if self.prefix else {}
            uploads = [one for page in pages(Bucket=self.bucket, **options) for one in page.get("Uploads", ())]
        return [Unfinished(one["Key"][cut:], 0, one["Initiated"].timestamp(), None, one["UploadId"]) for one in uploads]

    def discard(self, unfinished: Unfinished) -> None:
        with self._s3("delete", unfinished.key) as s3, suppress(s3.exceptions.NoSuchUpload):
            s3.abort_multipart_upload(Bucket=self.bucket, Key=self._full(unfinished.key), UploadId=unfinished.name)

    @property
    def _location(self) -> ObjectLocation:
        return ObjectLocation(self.bucket, self.prefix, self.endpoint)

    def _s3(self, verb: str, key: str) -> Any:
        return translate_errors(
            self._location, verb, key, lambda: get_client(self.endpoint, self.region, virtual=self.virtual)
        )

    def _full(self, key: str) -> str:
        return "/".join(part for part in (self.prefix, key) if part)

    def _pages(self, s3: Any, full: str, **options: str) -> Iterator[dict[str, Any]]:
        pages = s3.get_paginator("list_objects_v2").paginate
        yield from pages(Bucket=self.bucket, Prefix=f"{full}/" if full else "", **options)

    def _put_if(self, s3: Any, key: str, data: bytes, **condition: str) -> None:
        """PUT with `If-None-Match: *` or `If-Match`, after a HEAD: a server that ignores the header would overwrite."""
        full, where = self._full(key), self._location.format_key(key)
        refusal: StorageError = AlreadyExistsError(f"{where} exists already")
        if "IfMatch" in condition:
            refusal = ObjectChangedError(f"{where} was changed by another writer")
        if _tag(s3, self.bucket, full) != condition.get("IfMatch"):
            raise refusal
        for wait in (0.1, 0.2, 0.4, 0.8, None):
            failure = _conditional_put(s3, self.bucket, full, data, condition)
            if failure is None:
                return
            if error_code(failure) == "ConditionalRequestConflict" and wait is not None:  # AWS: writers at once
                time.sleep(wait)
            elif error_code(failure) in _REFUSED:
                if _repeated(failure) and _read(s3, self.bucket, full) == data:
                    return  # the answer to the first try was lost; the object is this writer's
                raise refusal from failure
            elif error_code(failure) in ("NotImplemented", "501"):
                _put(s3, self.bucket, full, data)
                return
            else:
                raise failure


def _put(s3: Any, bucket: str, key: str, data: bytes, **headers: str) -> None:
    """Write an object with the MD5 of its bytes; `headers` are its conditions or its content type.

    SeaweedFS 4.48 keeps an empty object where a writer dies between the headers and the body, unless it knows the MD5.
    """
    md5 = hashlib.md5(data, usedforsecurity=False).digest()
    s3.put_object(Bucket=bucket, Key=key, Body=data, ContentMD5=base64.b64encode(md5).decode(), **headers)


def _conditional_put(s3: Any, bucket: str, key: str, data: bytes, condition: dict[str, str]) -> Exception | None:
    from botocore.exceptions import ClientError

    try:
        _put(s3, bucket, key, data, **condition)
    except ClientError as error:
        return cast(Exception, error)
    return None


def _repeated(failure: Exception) -> bool:
    response = getattr(failure, "response", {})
    return bool(response.get("ResponseMetadata", {}).get("RetryAttempts", 0) > 0)


def _tag(s3: Any, bucket: str, key: str) -> str | None:
    """Return the object's ETag; None if there is no such object."""
    from botocore.exceptions import ClientError

    try:
        return str(s3.head_object(Bucket=bucket, Key=key)["ETag"])
    except ClientError as error:
        if error_code(error) in _NO_OBJECT:  # a HEAD has no body that could say more
            return None
        raise


def _read(s3: Any, bucket: str, key: str, start: int = 0) -> bytes:
    """Return an object's bytes from `start` on. botocore retries a request, but not the reading of its body."""
    from botocore.exceptions import ClientError, IncompleteReadError, ReadTimeoutError, ResponseStreamingError

    options = {"Range": f"bytes={start}-"} if start else {}
    for wait in (0.2, 1.0, None):
        try:
            response = s3.get_object(Bucket=bucket, Key=key, **options)  # outside the tries: botocore has made three
        except ClientError as error:
            if error_code(error) in ("InvalidRange", "416"):  # it has no more than `start` bytes
                return b""
            raise
        try:
            with response["Body"] as body:
                return cast(bytes, body.read())
        except (IncompleteReadError, ReadTimeoutError, ResponseStreamingError):
            if wait is None:
                raise
            time.sleep(wait)
    raise AssertionError("the last try returns or raises")


def _transfer() -> Any:
    from boto3.s3.transfer import TransferConfig

    # Four parts of 16 MB in flight: 64 MB of memory at most. The CRT client would ignore our time-outs.
    return TransferConfig(
        multipart_threshold=_PART, multipart_chunksize=_PART, max_concurrency=4, preferred_transfer_client="classic"
    )
