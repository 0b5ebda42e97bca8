"""A port-forward through an API server of this test: to which pod it leads, and what its failures say."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from trainer_app.__main__ import main
from trainer_app.errors import AccessDeniedError, NotFoundError
from trainer_app.launch.kube import Kube, connect
from trainer_app.launch.tunnel import forward_port

pytestmark = pytest.mark.unit
PORT, ENDPOINT = 9000, "http://minio.minio.svc:9000"
SERVICE = {"spec": {"ports": [{"port": PORT}], "selector": {"app": "minio"}}}
ANNOTATIONS = {"trainer/storage-uri": "s3://bucket/runs", "trainer/storage-endpoint": ENDPOINT}
RAYJOB = {
    "metadata": {
        "name": "demo",
        "labels": {"trainer/run": "demo"},
        "annotations": {**ANNOTATIONS, "trainer/user": "alice"},
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
}


class Api(BaseHTTPRequestHandler):
    """One ready pod behind a Service, which sends back its name and what it gets; one run, in the namespace team."""

    pod = "minio-0"
    denied = ""  # a resource that this user may not use
    breaks = False  # the connection is reset after the first bytes
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(200, {"status": {"userInfo": {"username": "alice"}}})

    def do_GET(self) -> None:
        resource = self.path.partition("?")[0].rpartition("/")[2]
        ready = {"name": self.pod}, {"conditions": [{"type": "Ready", "status": "True"}]}
        answers: dict[str, Any] = {
            "minio": SERVICE,
            "pods": {"items": [dict(zip(("metadata", "status"), ready, strict=True))] if self.pod else []},
            "rayjobs": {"items": [RAYJOB] if "/team/" in self.path else []},
        }
        if resource == self.denied:
            self._answer(403, {"message": f'{resource} is forbidden: User "alice" cannot'})
        elif resource == "portforward" and f"/pods/{self.pod}/" in self.path:
            self._forward()
        else:
            self._answer(200 if resource in answers else 404, answers.get(resource, {"message": "not found"}))

    def _answer(self, status: int, document: Any) -> None:
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _forward(self) -> None:
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        for name, value in (("Upgrade", "websocket"), ("Connection", "Upgrade")):
            self.send_header(name, value)
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        self.end_headers()
        for channel in (0, 1):  # each begins with the port
            self._send(bytes((channel,)) + struct.pack("<H", PORT))
        while data := self._receive():
            if self.breaks:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                break
            self._send(b"\0" + self.pod.encode() + b" " + data)
        self.close_connection = True

    def _send(self, data: bytes) -> None:
        self.wfile.write(bytes((0x82, len(data))) + data)

    def _receive(self) -> bytes:
        """Return the payload of a short frame without its channel; none when the client closes."""
        head = self.rfile.read(2)
        if len(head) < 2 or head[0] & 15 == 8:
            return b""
        mask = self.rfile.read(4)
        return bytes(b ^ mask[n % 4] for n, b in enumerate(self.rfile.read(head[1] & 127)))[1:]

    def log_message(self, *args: object) -> None:
        """Silent."""


@pytest.fixture
def kube(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Kube]:
    for name, value in (("pod", "minio-0"), ("denied", ""), ("breaks", False)):
        monkeypatch.setattr(Api, name, value)
    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        server.daemon_threads, server.block_on_close = True, False
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        cluster = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_address[1]}"}}
        context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
        users = [{"name": "u", "user": {}}]
        config = {"clusters": [cluster], "contexts": [context], "users": users, "current-context": "c"}
        (tmp_path / "config").write_text(json.dumps({"apiVersion": "v1", "kind": "Config", **config}))
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "config"))
        yield connect("team")
        server.shutdown()


def ask(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        client.sendall(b"hello")
        return client.recv(100)


def test_a_pod_that_is_replaced_is_left_for_the_next(kube: Kube, monkeypatch: pytest.MonkeyPatch) -> None:
    with forward_port(kube, "minio", "minio", PORT) as port:
        assert ask(port) == b"minio-0 hello"
        monkeypatch.setattr(Api, "pod", "minio-1")
        assert [ask(port), ask(port)] == [b"minio-1 hello"] * 2


def test_a_connection_that_breaks_ends_at_once_and_prints_nothing(
    kube: Kube, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with forward_port(kube, "minio", "minio", PORT) as port:
        monkeypatch.setattr(Api, "breaks", True)
        assert ask(port) == b""
        monkeypatch.setattr(Api, "pod", "")  # no pod is ready
        with suppress(ConnectionResetError):
            assert ask(port) == b""
        monkeypatch.setattr(Api, "pod", "minio-0")
        monkeypatch.setattr(Api, "breaks", False)
        assert ask(port) == b"minio-0 hello"
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "denied, pod, error, text",
    [
        ("portforward", "minio-0", AccessDeniedError, "portforward is forbidden: .*; ask for the Role of k8s/rbac"),
        ("", "", NotFoundError, "Service minio in minio has no ready pod"),
    ],
)
def test_what_keeps_it_from_beginning_is_said(
    kube: Kube, monkeypatch: pytest.MonkeyPatch, denied: str, pod: str, error: type[Exception], text: str
) -> None:
    monkeypatch.setattr(Api, "denied", denied)
    monkeypatch.setattr(Api, "pod", pod)
    with pytest.raises(error, match=text), forward_port(kube, "minio", "minio", PORT):
        pass


@pytest.mark.parametrize("verb", ["ui", "report"])
@pytest.mark.parametrize(
    "namespace, denied, code, text",
    [
        ("nowhere", "", 2, "error: there are no runs in namespace nowhere; start one with trainer submit"),
        ("team", "rayjobs", 1, "error: can't read RayJob: rayjobs is forbidden: "),
        ("team", "portforward", 1, "error: can't forward a port to pod minio-0 in minio: portforward is forbidden: "),
    ],
)
def test_pages_of_a_cluster_that_cannot_be_read(
    kube: Kube,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    verb: str,
    namespace: str,
    denied: str,
    code: int,
    text: str,
) -> None:
    monkeypatch.setattr(Api, "denied", denied)
    monkeypatch.setenv("AWS_ENDPOINT_URL", ENDPOINT)  # a RayJob's own is not believed
    assert main([verb, "-n", namespace]) == code
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith(text) and shown.err.count("\n") == 1
