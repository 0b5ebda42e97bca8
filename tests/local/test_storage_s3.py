"""A store in a real S3 server, SeaweedFS: what works, what people read when it doesn't, and that no secret shows."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.local import scan
from tests.s3 import S3, S3Server, free_ports
from tests.store_contract import StoreContract, is_whole, keys, killed_writer, signed
from trainer_app.checkpoint.leftovers import remove_leftovers
from trainer_app.errors import AccessDeniedError, InputError, NotFoundError, StorageError
from trainer_app.records import FitFolder
from trainer_app.run.orphans import find_orphans
from trainer_app.storage import Store, open_store, s3_client

pytestmark = pytest.mark.local
SLACK_S = 3  # of a busy machine
KEYS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"


class TestS3(StoreContract):
    races = 4  # SeaweedFS takes 1-2 s to settle one

    @pytest.fixture
    def store(self, s3: S3) -> Store:
        return open_store(s3.uri)


def test_a_writer_that_dies_after_its_headers_leaves_what_was_there(
    s3: S3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The server sees the headers of a PUT and no byte of its body: no empty object comes of it."""
    from botocore.awsrequest import AWSConnection

    def send(connection: Any, data: bytes) -> None:
        if not data.startswith((b"PUT ", b"HEAD ")):  # a body
            connection.sock.close()
            raise BrokenPipeError("the writer is dead")
        send_all(connection, data.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")

    send_all = AWSConnection.send
    store = open_store(s3.uri)
    store.put("there", b"x")
    (tmp_path / "file").write_bytes(b"y" * 1000)
    with monkeypatch.context() as dead:
        dead.setattr(AWSConnection, "send", send)
        for write in (
            lambda: store.put("there", b"y" * 1000),
            lambda: store.put("new", b"y" * 1000, create=True),
            lambda: store.put_file("file", tmp_path / "file"),
        ):
            with pytest.raises(StorageError):
                write()
    time.sleep(1)  # until the server has seen that nobody is there
    assert store.get("there") == b"x"
    assert keys(store) == ["there"]


def calls(store: Store, folder: Path) -> list[Callable[[], object]]:
    """Every method that asks the server."""
    (folder / "source").write_bytes(b"x")
    return [
        lambda: store.put("k", b"x"),
        lambda: store.put("k", b"x", create=True),
        lambda: store.put_file("k", folder / "source"),
        lambda: store.get("k"),
        lambda: store.get_file("k", folder / "target"),
        lambda: store.exists("k"),
        lambda: list(store.list()),
        store.list_folders,
        lambda: store.delete("k"),
        lambda: store.delete_prefix("x"),
    ]


def all_raise(store: Store, folder: Path, kind: type[StorageError], *said: str) -> None:
    for number, call in enumerate(calls(store, folder)):
        with pytest.raises(kind) as caught:
            call()
        text = str(caught.value)
        assert all(part in text for part in said), f"call {number}: {text}"
        assert "\n" not in text
        assert os.environ.get("AWS_SECRET_ACCESS_KEY", "no such") not in text
    assert not (folder / "target").exists()


@pytest.mark.parametrize("wrong", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_wrong_keys(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    store = open_store(s3.uri)
    store.put("k", b"x")
    monkeypatch.setenv(wrong, "wrong-canary")
    all_raise(store, tmp_path, AccessDeniedError, s3.server.endpoint, s3.bucket, KEYS)


def test_the_server_itself_refuses_wrong_keys(s3_server: S3Server) -> None:
    from botocore.exceptions import ClientError

    for wrong in ({"aws_secret_access_key": "wrong"}, {"aws_access_key_id": "wrong"}):
        with pytest.raises(ClientError, match=r"SignatureDoesNotMatch|InvalidAccessKeyId"):
            s3_server.client(**wrong).list_objects_v2(Bucket="tests")


def test_no_keys(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    all_raise(open_store(s3.uri), tmp_path, AccessDeniedError, "no complete credentials", KEYS)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("HOME", str(tmp_path))  # no ~/.aws
    all_raise(open_store(s3.uri), tmp_path, AccessDeniedError, "no complete credentials", KEYS, s3.server.endpoint)
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    all_raise(open_store(s3.uri), tmp_path, AccessDeniedError, "nobody", "correct AWS_PROFILE", KEYS)


def test_keys_of_a_profile(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "credentials").write_text(
        f"[mine]\naws_access_key_id = {s3.server.access_key}\naws_secret_access_key = {s3.server.secret_key}\n"
    )
    (tmp_path / "config").write_text(f"[profile mine]\nregion = eu-north-1\nendpoint_url = {s3.server.endpoint}\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_REGION"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "mine")
    store = open_store(s3.uri)
    store.put("k", b"x")
    assert store.get("k") == b"x"
    assert s3_client.get_client(None, None).meta.region_name == "eu-north-1"


def test_missing_bucket(s3: S3, tmp_path: Path) -> None:
    store = open_store("s3://no-such-bucket/runs")
    asked = calls(store, tmp_path)
    assert asked.pop(5)() is False  # exists(): a HEAD says 404 and nothing more
    for call in asked:
        with pytest.raises(
            NotFoundError, match=r"there is no bucket 'no-such-bucket'; create it or correct storage\.uri"
        ) as e:
            call()
        assert s3.server.endpoint in str(e.value) and "\n" not in str(e.value)
        assert e.value.exit_code == 2


def test_nobody_listens(s3: S3, tmp_path: Path) -> None:
    endpoint = f"http://127.0.0.1:{free_ports(1)[0]}"
    began = time.monotonic()
    store = open_store(f"{s3.uri}?endpoint_override={endpoint}")
    with pytest.raises(StorageError, match=f"no connection to {endpoint}; is it running"):
        store.put("k", b"")
    assert time.monotonic() - began < 15
    with pytest.raises(StorageError, match=r"no connection to http://no-such-host\.invalid"):
        open_store(s3.uri, endpoint="http://no-such-host.invalid").get("k")


@pytest.fixture
def hole() -> Iterator[str]:
    """An address where connections are not taken: the backlog is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        pending = [socket.socket() for _ in range(4)]
        for one in pending:
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        for one in pending:
            one.close()


@pytest.fixture
def silence() -> Iterator[str]:
    """A server that takes requests and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken: list[socket.socket] = []
        stop = threading.Event()
        listener.settimeout(0.1)

        def take() -> None:
            while not stop.is_set():
                try:
                    taken.append(listener.accept()[0])
                except TimeoutError:
                    continue

        thread = threading.Thread(target=take)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        stop.set()
        thread.join()
        for one in taken:
            one.close()


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Time-outs of 0.5 and 1 s."""
    s3_client._make_client.cache_clear()
    monkeypatch.setattr(s3_client, "CONNECT_S", 0.5)
    monkeypatch.setattr(s3_client, "READ_S", 1.0)
    yield
    s3_client._make_client.cache_clear()


@pytest.mark.usefixtures("short")
def test_no_connection_within_15_s(s3: S3, hole: str) -> None:
    began = time.monotonic()
    with pytest.raises(StorageError, match=f"no connection to {hole}"):
        open_store(s3.uri, endpoint=hole).put("k", b"")
    took = time.monotonic() - began
    # Three attempts of CONNECT_S; between them botocore waits up to 1 s, then up to 2 s, whatever the time-outs.
    assert 3 * 0.5 <= took < 3 * 0.5 + 3 + SLACK_S


@pytest.mark.usefixtures("short")
def test_no_answer(s3: S3, silence: str) -> None:
    began = time.monotonic()
    with pytest.raises(StorageError, match=f"{silence} did not answer in time"):
        open_store(s3.uri, endpoint=silence).get("k")
    assert 3 * 1 <= time.monotonic() - began < 3 * 1 + 3 + SLACK_S  # as above


def test_https_where_there_is_none(s3: S3) -> None:
    with pytest.raises(StorageError, match=r"SSL.*AWS_CA_BUNDLE"):
        open_store(s3.uri, endpoint=s3.server.endpoint.replace("http:", "https:")).get("k")


def test_endpoint_of_the_uri_comes_first(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    store = open_store(f"{s3.uri}?endpoint_override={s3.server.endpoint}&region=us-west-2")
    store.child("a").put("k", b"x")
    assert open_store(store.child("a").uri).get("k") == b"x"


@pytest.mark.parametrize("bad", ["127.0.0.1:9000", "nonsense"])
def test_bad_endpoint_in_the_environment(s3: S3, monkeypatch: pytest.MonkeyPatch, bad: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", bad)
    with pytest.raises(InputError, match="an endpoint is http://host:port"):
        open_store(s3.uri).get("k")


def test_no_secret_of_an_endpoint_or_proxy_shows(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://user:canary-9d2@127.0.0.1:1")
    with pytest.raises(StorageError) as caught:
        open_store(s3.uri).get("k")
    assert "canary-9d2" not in str(caught.value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://s3.example.com")
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://user:canary-9d2@127.0.0.1:1")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name)
    s3_client._make_client.cache_clear()
    with pytest.raises(StorageError) as caught:
        open_store(s3.uri).get("k")
    assert "proxy" in str(caught.value) and "canary-9d2" not in str(caught.value)


def test_clients_are_kept_and_follow_the_environment(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    first = s3_client.get_client(None, None)
    assert s3_client.get_client(None, None) is first
    assert s3_client.get_client("http://127.0.0.1:1", None) is not first
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "another")
    assert s3_client.get_client(None, None) is not first


@pytest.mark.parametrize(
    ("env", "given", "region"),
    [
        ({}, None, "us-east-1"),
        ({"AWS_DEFAULT_REGION": "eu-west-1"}, None, "eu-west-1"),
        ({"AWS_DEFAULT_REGION": "eu-west-1", "AWS_REGION": "eu-west-2"}, None, "eu-west-2"),
        ({"AWS_REGION": "eu-west-2"}, "eu-west-3", "eu-west-3"),
    ],
)
def test_region(monkeypatch: pytest.MonkeyPatch, env: dict[str, str], given: str | None, region: str) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert s3_client.get_client(None, given).meta.region_name == region


def test_addressing(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    def url(endpoint: str | None, *, virtual: bool = False) -> str:
        client = s3_client.get_client(endpoint, None, virtual=virtual)
        return str(client.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "k"})).partition("?")[
            0
        ]

    assert url("http://minio.example:9000") == "http://minio.example:9000/bucket/k"
    assert url("http://minio.example:9000", virtual=True) == "http://bucket.minio.example:9000/k"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://minio.example:9000")
    assert url(None) == "http://minio.example:9000/bucket/k"
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    assert url(None) == "https://bucket.s3.amazonaws.com/k"


def test_uploads_have_no_checksum_that_old_servers_refuse(s3: S3, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(bytes(20 << 20))
    sent: list[dict[str, Any]] = []
    client = s3_client.get_client(None, None)
    client.meta.events.register(
        "before-send.s3", lambda request, **_: sent.append(dict(request.headers)), unique_id="t"
    )
    try:
        store = open_store(s3.uri)
        store.put("k", b"x")
        store.put_file("l", tmp_path / "f")
    finally:
        client.meta.events.unregister("before-send.s3", unique_id="t")
    names = {name.lower() for headers in sent for name in headers}
    assert len(sent) == 5 and "authorization" in names  # a PUT; a multipart upload of two parts
    assert not [name for name in names if "checksum" in name or "trailer" in name]


def test_large_files(s3: S3, tmp_path: Path) -> None:
    """40 MB in three parts, there and back."""
    store, source = open_store(s3.uri), tmp_path / "source"
    source.write_bytes(signed(40_000_000))
    store.put_file("a/big.ckpt", source)
    assert [(entry.key, entry.size) for entry in store.list()] == [("a/big.ckpt", 40_000_032)]
    store.get_file("a/big.ckpt", tmp_path / "target")
    assert is_whole((tmp_path / "target").read_bytes())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "target"]
    with pytest.raises(StorageError, match="can't write"):
        store.get_file("a/big.ckpt", source / "in-a-file")


def test_killed_multipart_uploads_are_not_seen(s3: S3, tmp_path: Path) -> None:
    store, source = open_store(s3.uri), tmp_path / "source"
    source.write_bytes(signed(60_000_000))
    unfinished: list[Any] = []
    for number in range(12):
        if unfinished:
            break
        killed_writer(partial(store.put_file, f"x/{number}", source), 0.05 + 0.03 * number)
        unfinished = s3.server.client().list_multipart_uploads(Bucket=s3.bucket, Prefix=s3.prefix).get("Uploads", [])
        for key in keys(store):
            assert is_whole(store.get(key))
            store.delete(key)
    assert unfinished, "no upload was killed in the middle: the test shows nothing"


def test_if_none_match_holds_here(s3: S3) -> None:
    """SeaweedFS 4.48 takes one of 8 concurrent `If-None-Match: *` PUTs, without the look that `put` takes before.

    Other servers may take several: then `create=True` keeps out who comes later, not who comes at the same moment.
    """
    from botocore.exceptions import ClientError

    client, barrier = s3.server.client(), threading.Barrier(8)

    def create(number: int, key: str) -> str:
        barrier.wait()
        try:
            client.put_object(Bucket=s3.bucket, Key=key, Body=b"%d" % number, IfNoneMatch="*")
        except ClientError as error:
            return str(error.response["Error"]["Code"])
        return "won"

    with ThreadPoolExecutor(8) as pool:
        for race in range(6):
            key = f"{s3.prefix}/{race}"
            answers = list(pool.map(create, range(8), [key] * 8))
            assert answers.count("won") == 1
            assert set(answers) == {"won", "PreconditionFailed"}
            assert client.get_object(Bucket=s3.bucket, Key=key)["Body"].read() == b"%d" % answers.index("won")


def test_a_server_that_ignores_if_none_match_overwrites_nothing(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    client = s3_client.get_client(None, None)

    def drop(request: Any, **_: Any) -> None:
        del request.headers["If-None-Match"]

    client.meta.events.register("before-sign.s3.PutObject", drop, unique_id="drop")
    try:
        store = open_store(s3.uri)
        store.put("k", b"first", create=True)
        with pytest.raises(StorageError, match="exists already"):
            store.put("k", b"second", create=True)
        assert store.get("k") == b"first"
    finally:
        client.meta.events.unregister("before-sign.s3.PutObject", unique_id="drop")


def test_a_create_whose_answer_was_lost_is_ours(s3: S3) -> None:
    """botocore repeats the PUT, and is told that the object is there: it is the one of the first try."""
    from botocore.awsrequest import AWSResponse

    client, times = s3_client.get_client(None, None), 0

    def lose(request: Any, **_: Any) -> Any:
        nonlocal times
        times += 1
        if times > 1:
            return None
        s3.server.client().put_object(Bucket=s3.bucket, Key=f"{s3.prefix}/k", Body=request.body)
        return AWSResponse(request.url, 503, {}, _Empty())

    client.meta.events.register("before-send.s3.PutObject", lose, unique_id="lose")
    try:
        open_store(s3.uri).put("k", b"mine", create=True)
    finally:
        client.meta.events.unregister("before-send.s3.PutObject", unique_id="lose")
    assert times == 2


class _Empty:
    def stream(self, **_: Any) -> Iterator[bytes]:
        return iter([b""])


def test_many_objects_are_paged(s3: S3) -> None:
    store = open_store(s3.uri)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: store.put(f"run-{n:04d}/run.json", b"{}"), range(1100)))
    assert store.list_folders() == [f"run-{n:04d}" for n in range(1100)]
    assert len(keys(store)) == 1100
    store.delete_prefix("")
    assert keys(store) == []


def test_the_server_keeps_its_secret_and_listens_here_only(s3: S3) -> None:
    open_store(s3.uri).put("k", b"x")
    secret = s3.server.secret_key.encode()
    holding = [str(p) for p in s3.server.folder.rglob("*") if secret in scan.content(p)]
    assert holding == [str(s3.server.folder / "identities.json")]
    assert (s3.server.folder / "identities.json").stat().st_mode & 0o077 == 0
    assert s3.server.secret_key not in repr(s3)
    mine = psutil.Process().children(recursive=True)
    server = next(process for process in mine if process.name() == "weed")
    assert s3.server.secret_key not in " ".join(server.cmdline())
    listening = {c.laddr.ip for c in server.net_connections() if c.status == psutil.CONN_LISTEN}
    assert listening == {"127.0.0.1"}


def test_uploads_that_never_ended_are_found_and_discarded(s3: S3, tmp_path: Path) -> None:
    store = open_store(s3.uri)
    fit_folder = FitFolder(store.child("run"))
    names = ("a0001-e000002-s000000002", "a0003-e000001-s000000001")
    keys = [f"run/checkpoints/{name}/checkpoint.ckpt" for name in names]
    client = s3.server.client()
    for key in [*keys, "other/file"]:
        upload = client.create_multipart_upload(Bucket=s3.bucket, Key=f"{s3.prefix}/{key}")
        client.upload_part(
            Bucket=s3.bucket, Key=f"{s3.prefix}/{key}", UploadId=upload["UploadId"], PartNumber=1, Body=b"x" * 6_000_000
        )
    assert sorted(one.key for one in store.list_unfinished()) == sorted([*keys, "other/file"])
    remove_leftovers(fit_folder, 2)
    assert sorted(one.key for one in store.list_unfinished()) == sorted([keys[1], "other/file"])
    store.put("run/run.json", b"{}")
    assert find_orphans(store, older_than_s=3600) == []
    orphans = find_orphans(store, older_than_s=-3600)
    assert [orphan.key for orphan in orphans] == [keys[1]]
    for orphan in orphans * 2:  # the second time it is gone
        orphan.remove(store)
    assert [one.key for one in store.list_unfinished()] == ["other/file"]  # no run's
