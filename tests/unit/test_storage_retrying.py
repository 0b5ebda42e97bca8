"""A storage that does not answer is waited for."""

from __future__ import annotations

import http.client
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.faulty_store import METHODS, SILENT, Faults, FaultyStore
from trainer_app.errors import AccessDeniedError, AlreadyExistsError, BucketMissingError, StorageUnavailableError
from trainer_app.storage import open_retrying, open_store, retrying, s3_client, try_once
from trainer_app.storage.retrying import Access, RetryingStore
from trainer_app.storage.s3_errors import ObjectLocation, translate_errors

pytestmark = pytest.mark.unit

DENIED = AccessDeniedError("denied")


class Clock:
    """Time that passes when something sleeps."""

    def __init__(self) -> None:
        self.now, self.waits = 100.0, list[float]()
        self.on_sleep: Callable[[], None] = lambda: None

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.waits.append(seconds)
        self.on_sleep()

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(retrying, "time", SimpleNamespace(sleep=made.sleep, monotonic=made.monotonic))
    return made


@pytest.fixture
def said() -> Any:
    lines: list[str] = []
    with retrying.saying(lines.append):
        yield lines


def make(folder: Path, *, answered: bool = True, written: bool = True, timeout_s: float = 600) -> tuple[Any, Faults]:
    inner = FaultyStore(open_store(str(folder / "storage")))
    inner.inner.put("there", b"1")
    return RetryingStore(inner, timeout_s, Access(answered, written)), inner.faults


def requests_of(store: Any, folder: Path) -> dict[str, Callable[[], Any]]:
    (folder / "file").write_bytes(b"2")
    return {
        "tag": lambda: store.tag("there"),
        "put": lambda: store.put("new", b"2"),
        "put_file": lambda: store.put_file("new", folder / "file"),
        "get": lambda: store.get("there"),
        "get_file": lambda: store.get_file("there", folder / "copy"),
        "exists": lambda: store.exists("there"),
        "list": lambda: [entry.key for entry in store.list()],
        "list_folders": store.list_folders,
        "delete": lambda: store.delete("there"),
        "delete_prefix": lambda: store.delete_prefix(""),
    }


@pytest.mark.parametrize("method", METHODS)
def test_every_request_outlives_an_outage_of_seven_seconds_and_ends_after_the_limit(
    method: str, tmp_path: Path, clock: Clock
) -> None:
    store, faults = make(tmp_path)
    faults.fail(*[SILENT] * 4)
    expected = requests_of(open_store(store.uri), tmp_path)[method]() if method in ("get", "list", "exists") else None
    answer = requests_of(store, tmp_path)[method]()
    assert clock.waits and (expected is None or answer == expected)
    assert all(0 < wait <= retrying.LONGEST_WAIT_S for wait in clock.waits)
    faults.always, began = SILENT, clock.now
    with pytest.raises(StorageUnavailableError, match=r"tried for 600 s \(failure\.storage_timeout_s\)"):
        requests_of(store, tmp_path)[method]()
    assert 595 <= clock.now - began <= 601
    assert len({round(wait, 6) for wait in clock.waits}) > 5  # jitter


def test_requests_of_one_outage_share_its_limit(tmp_path: Path, clock: Clock) -> None:
    store, faults = make(tmp_path)
    faults.always = SILENT
    for _ in range(5):
        with pytest.raises(StorageUnavailableError):
            store.get("there")
    assert clock.now - 100 <= 601
    faults.always = None
    assert store.get("there") == b"1"
    faults.fail(*[SILENT] * 3)
    assert store.get("there") == b"1"


def test_one_line_is_said_while_it_waits_and_one_when_it_answers(tmp_path: Path, clock: Clock, said: list[str]) -> None:
    store, faults = make(tmp_path)
    faults.fail(SILENT)
    store.get("there")
    assert said == []  # passed at once
    faults.fail(*[SILENT] * 12)
    store.get("there")
    assert len(said) == 2, said
    assert said[0] == "no connection to http://s3; waiting for the storage, up to 600 s (failure.storage_timeout_s)"
    assert said[1].startswith("the storage answers again, after ")


def test_try_once_does_not_wait_but_is_heard_of(tmp_path: Path, clock: Clock, said: list[str]) -> None:
    store, faults = make(tmp_path)
    once, faults.always = try_once(store), SILENT
    for _ in range(3):
        with pytest.raises(StorageUnavailableError):
            once.child("a").exists("b")
        clock.now += 2
    assert clock.waits == [] and len(said) == 1
    faults.always = None
    once.exists("b")
    assert len(said) == 2


@pytest.mark.parametrize("error", [DENIED, BucketMissingError("no bucket")])
def test_what_is_refused_is_final_only_before_the_first_write(error: Any, tmp_path: Path, clock: Clock) -> None:
    store, faults = make(tmp_path, answered=True, written=False)
    faults.fail(error)
    with pytest.raises(type(error)):
        store.get("there")
    store.put("first", b"")
    faults.fail(error, error)
    assert store.get("there") == b"1" and len(clock.waits) == 2
    faults.always = error
    with pytest.raises(StorageUnavailableError):
        store.get("there")
    with pytest.raises(type(error)):
        store.delete("there")  # a policy may allow no deletion: nothing waits for that


def test_a_user_hears_at_once_that_a_storage_was_never_there(tmp_path: Path, clock: Clock) -> None:
    store, faults = make(tmp_path, answered=False, written=False)
    faults.fail(SILENT)
    with pytest.raises(StorageUnavailableError, match=r"^no connection to http://s3$"):
        store.list_folders()
    assert clock.waits == []
    store.exists("x")
    faults.fail(SILENT)
    store.exists("x")
    assert len(clock.waits) == 1
    for options in ({"submitted": True}, {"begun": True}):
        assert open_retrying(str(tmp_path / str(options)), 5, **options).access.answered


@pytest.mark.parametrize("other", [None, b"of another writer"])
def test_a_create_whose_answer_was_lost_is_known_for_ones_own(
    other: bytes | None, tmp_path: Path, clock: Clock
) -> None:
    store, faults = make(tmp_path)
    faults.lost = other is None
    faults.fail(SILENT)
    if other is None:
        store.put("new", b"mine", create=True)
        assert store.get("new") == b"mine"
        with pytest.raises(AlreadyExistsError):
            store.put("new", b"mine", create=True)
        return
    store.inner.inner.put("new", other)
    with pytest.raises(AlreadyExistsError):
        store.put("new", b"mine", create=True)
    assert store.get("new") == other


def test_thirty_percent_of_errors_lose_nothing(tmp_path: Path, clock: Clock) -> None:
    store, faults = make(tmp_path)
    errors = [SILENT if number * 7 % 10 < 3 else None for number in range(2000)]
    faults.fail(*errors)
    for number in range(200):
        store.put(f"k/{number:03d}", str(number).encode(), create=number % 2 == 0)
    assert [store.get(f"k/{number:03d}") for number in range(200)] == [str(n).encode() for n in range(200)]


def test_who_waits_between_two_tries_waits_for_the_storage(tmp_path: Path, clock: Clock) -> None:
    """A guard takes it for a storage that does not answer, and not for a thread that hangs."""
    store, faults = make(tmp_path)
    store.put("k", b"v")
    faults.fail(SILENT, SILENT)
    known: list[bool] = []
    clock.on_sleep = lambda: known.append(retrying.is_asking(threading.get_ident()))
    assert store.get("k") == b"v"
    assert known == [True, True] and not retrying.is_asking(threading.get_ident())


def test_a_limit_of_zero_waits_for_nothing_and_stores_can_be_pickled(tmp_path: Path, clock: Clock) -> None:
    store = open_retrying(str(tmp_path), 0, begun=True).child("run")
    faulty = RetryingStore(FaultyStore(store, Faults(always=SILENT)), 0, Access(True, True))
    with pytest.raises(StorageUnavailableError):
        faulty.get("x")
    assert clock.waits == []
    assert pickle.loads(pickle.dumps(store)).uri == str(tmp_path / "run")  # noqa: S301


def client_error(code: str, status: int, operation: str = "PutObject") -> Exception:
    from botocore.exceptions import ClientError

    answer: Any = {"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, operation)


def passing() -> list[Exception]:
    import urllib3
    from boto3.exceptions import RetriesExceededError
    from botocore import exceptions as boto
    from botocore.parsers import ResponseParserError
    from s3transfer.exceptions import S3DownloadFailedError  # type: ignore[import-untyped]

    return [
        client_error("ExpiredToken", 400),
        client_error("ExpiredTokenException", 400, "AssumeRoleWithWebIdentity"),
        client_error("InvalidIdentityToken", 400, "AssumeRoleWithWebIdentity"),
        client_error("IDPCommunicationError", 400, "AssumeRoleWithWebIdentity"),
        client_error("InternalError", 500),
        client_error("SlowDown", 503),
        client_error("RequestTimeout", 400),
        client_error("429", 429),
        client_error("RequestTimeTooSkewed", 403),
        client_error("NoSuchUpload", 404),
        boto.CredentialRetrievalError(provider="container-role", error_msg="timed out"),
        boto.MetadataRetrievalError(error_msg="no answer"),
        boto.EndpointConnectionError(endpoint_url="http://s3"),
        boto.ConnectionClosedError(endpoint_url="http://s3"),
        boto.ReadTimeoutError(endpoint_url="http://s3"),
        boto.IncompleteReadError(actual_bytes=1, expected_bytes=2),
        boto.SSLError(endpoint_url="https://s3", error="EOF occurred in violation of protocol"),
        RetriesExceededError(boto.IncompleteReadError(actual_bytes=1, expected_bytes=2)),
        RetriesExceededError(ConnectionResetError(104, "Connection reset by peer")),
        S3DownloadFailedError("Contents of stored object changed"),
        ResponseParserError("Unable to parse response, invalid XML received: <html>"),
        urllib3.exceptions.SSLError("bad record mac"),
        http.client.IncompleteRead(b""),
        TimeoutError("timed out"),
    ]


def lasting() -> list[Exception]:
    from botocore import exceptions as boto

    return [
        client_error("AccessDenied", 403),
        client_error("InvalidAccessKeyId", 403),
        client_error("AccessDenied", 403, "AssumeRoleWithWebIdentity"),
        client_error("NoSuchBucket", 404),
        client_error("EntityTooLarge", 400),
        client_error("NotImplemented", 501),
        client_error("PermanentRedirect", 301),
        FileNotFoundError(2, "No such file or directory", "local"),
        ValueError("of our own"),
        boto.NoCredentialsError(),
        boto.SSLError(endpoint_url="https://s3", error="certificate verify failed: self-signed certificate"),
    ]


@pytest.mark.parametrize(
    "error, passes",
    [(error, True) for error in passing()] + [(error, False) for error in lasting()],
    ids=lambda value: f"{value}"[:60].replace("/", " ") if isinstance(value, Exception) else None,
)
def test_which_errors_of_s3_may_pass(error: Exception, passes: bool) -> None:
    with (
        pytest.raises(Exception) as caught,
        translate_errors(ObjectLocation("b", "p", "http://s3"), "write", "k", dict),
    ):
        raise error
    assert isinstance(caught.value, StorageUnavailableError) == passes, caught.value


def test_refused_credentials_are_fetched_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))

    def key() -> str:
        return str(s3_client.get_client("http://127.0.0.1:1", None)._request_signer._credentials.access_key)

    def write(name: str) -> None:
        credentials.write_text(f"[default]\naws_access_key_id = {name}\naws_secret_access_key = x\n")

    write("OLD")
    assert key() == "OLD"
    write("NEW")
    with pytest.raises(StorageUnavailableError), translate_errors(ObjectLocation("b", "", None), "read", "k", dict):
        raise client_error("ExpiredToken", 400)
    assert key() == "NEW"
