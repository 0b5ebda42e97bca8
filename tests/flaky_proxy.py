"""An HTTP proxy before an S3 server, with outages and errors: before a request reaches the server, or after."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_HOP = {"connection", "expect", "transfer-encoding", "keep-alive"}
_BODY = b"<Error><Code>InternalError</Code><Message>We encountered an internal error</Message></Error>"


@dataclass
class Weather:
    """What the proxy does to requests.

    Args:
        errors: the share of requests that fail, by 500, 503 or a closed connection.
        outage_s: the length of one outage, which begins with the first PUT whose path has `outage_at` in it.
    """

    errors: float = 0.0
    outage_s: float = 0.0
    outage_at: str = "manifest.json"
    refused: int = 0  # requests during the outage
    failed: int = 0  # other requests that failed
    passed: int = 0
    _until: float | None = None
    _random: random.Random = field(default_factory=lambda: random.Random(7))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def next(self, verb: str, path: str) -> str:
        """What happens to a request: `pass`, `close`, `500`, `503`, or `lost`, of which only the answer fails."""
        with self._lock:
            if self._until is None and self.outage_s and verb == "PUT" and self.outage_at in path:
                self._until = time.monotonic() + self.outage_s
            if self._until is not None and time.monotonic() < self._until:
                self.refused += 1
                return "close"
            if (
                self.passed >= 5 and self._random.random() < self.errors
            ):  # a command that reaches nothing at first says so
                self.failed += 1
                return self._random.choice(["close", "500", "503", "lost"])
            self.passed += 1
            return "pass"


@contextmanager
def flaky_proxy(endpoint: str, weather: Weather) -> Iterator[str]:
    """Yield the URL of a proxy before `endpoint` (http://host:port)."""
    target = urlsplit(endpoint).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            what = weather.next(self.command, self.path)
            if what == "close":
                self.close_connection = True
            elif what in ("500", "503"):
                self.answer(int(what), [("Content-Type", "application/xml")], _BODY)
            else:
                connection = HTTPConnection(target, timeout=60)
                connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    if name.lower() not in _HOP:
                        connection.putheader(name, value)
                connection.endheaders(body or None)
                reply = connection.getresponse()
                data = reply.read()
                connection.close()
                if what == "lost":
                    self.close_connection = True
                else:
                    self.answer(reply.status, reply.getheaders(), data)

        def answer(self, status: int, headers: list[tuple[str, str]], data: bytes) -> None:
            self.send_response_only(status)
            length = {name.lower(): value for name, value in headers}.get("content-length", str(len(data)))
            for name, value in headers:
                if name.lower() not in {*_HOP, "content-length"}:
                    self.send_header(name, value)
            self.send_header("Content-Length", length if self.command == "HEAD" else str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = handle_any  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Keep the test's output."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
