"""A run is followed to its end, and its exit code is the run's, whatever can't be shown of it."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

import pytest
import urllib3

from trainer_app.cli import submit
from trainer_app.errors import AccessDeniedError, StorageError, TrainerError
from trainer_app.launch import follow
from trainer_app.launch.kube import Kube

pytestmark = pytest.mark.unit
VOLUME = "/mnt/storage"
AWAY = "s3://bucket/p"


@pytest.fixture(autouse=True)
def _named(monkeypatch: pytest.MonkeyPatch) -> None:
    """This user's environment names the storage's endpoint."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")


@dataclass
class Table:
    """A RayJob, and nothing else."""

    job: Any
    namespace: str = "team"
    events: list[Any] = field(default_factory=list)

    def get(self, kind: str, name: str) -> Any:
        return self.job

    def list(self, kind: str, *, labels: Any = None, fields: Any = None) -> list[Any]:
        return self.events if kind == "Event" else []

    def watch(self, kind: str, **_: Any) -> Any:
        raise AccessDeniedError("this user may not watch")


def job(uri: str, status: str = "Complete", result: str = "SUCCEEDED", **spec: Any) -> Any:
    notes = {"trainer/storage-uri": uri, "trainer/storage-endpoint": "http://127.0.0.1:9"}
    meta = {"name": "demo", "labels": {"trainer/run": "demo"}, "annotations": notes, "creationTimestamp": ""}
    return {"metadata": meta, "spec": spec, "status": {"jobDeploymentStatus": status, "jobStatus": result}}


def until_end(one: Any) -> tuple[int, list[str]]:
    said: list[str] = []
    return follow.follow_run(cast(Kube, Table(one)), "demo", say=said.append, show=said.append), said


@pytest.mark.parametrize("uri, why", [(VOLUME, "stored in a volume"), (AWAY, "does not answer from here")])
@pytest.mark.parametrize("result, code", [("SUCCEEDED", 0), ("FAILED", 1)])
def test_the_code_is_the_runs_where_its_results_cant_be_shown(
    uri: str, why: str, result: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    status = "Complete" if code == 0 else "Failed"
    assert submit.follow_submitted(cast(Kube, Table(job(uri, status, result))), "demo", None) == code
    assert why in capsys.readouterr().err


@pytest.mark.parametrize("uri, why", [(VOLUME, "stored in a volume"), (AWAY, "does not answer from here")])
def test_a_run_without_a_submitter_is_followed_without_its_log(uri: str, why: str) -> None:
    code, said = until_end(job(uri, submissionMode="HTTPMode"))
    assert code == 0 and "log can't be shown" in said[0] and why in said[0]
    assert said[1:] == ["run demo: Complete (SUCCEEDED)"]


class LogServer:
    """A kubelet: each request gets the next of `answers`; a line `SILENT` keeps the connection open without a word."""

    namespace = "team"

    def __init__(self, answers: list[list[str]], jobs: list[Any]) -> None:
        self.answers, self.jobs, self.asked = answers, jobs, list[Any]()
        self.over = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for line in outer.answers.pop(0) if outer.answers else ["SILENT"]:
                    if line == "SILENT":
                        outer.over.wait(20)
                        return
                    self.wfile.write(f"{len(line) + 1:x}\r\n{line}\n\r\n".encode())
                self.wfile.write(b"0\r\n\r\n")

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Keep the test's output."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def core(self) -> Any:
        return self

    def read_namespaced_pod_log(self, pod: str, namespace: str, *, _request_timeout: Any, **options: Any) -> Any:
        self.asked.append(options.get("since_seconds"))
        connect, read = _request_timeout
        url = f"http://127.0.0.1:{self.server.server_port}/"
        timeout = urllib3.Timeout(connect=connect, read=read)
        return urllib3.PoolManager().request("GET", url, preload_content=False, timeout=timeout)

    def get(self, kind: str, name: str) -> Any:
        return self.jobs.pop(0) if len(self.jobs) > 1 else self.jobs[0]

    def list(self, kind: str, **_: Any) -> list[Any]:
        return []

    def watch(self, kind: str, **_: Any) -> Any:
        raise AccessDeniedError("this user may not watch")


@pytest.fixture
def kubelet(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., LogServer]]:
    servers: list[LogServer] = []

    def start(*answers: list[str], jobs: list[Any]) -> LogServer:
        servers.append(LogServer(list(answers), jobs))
        return servers[-1]

    pod = {"metadata": {"name": "demo-abc", "creationTimestamp": "1"}, "status": {"phase": "Running"}}
    monkeypatch.setattr("trainer_app.launch.pods.list_submitters", lambda *_: [pod])
    monkeypatch.setattr("trainer_app.launch.pods.find_run_pods", lambda *_: [])
    monkeypatch.setattr("trainer_app.launch.pods.warning_events", lambda *_: [])
    monkeypatch.setattr(follow, "SILENCE_S", 0.2)
    monkeypatch.setattr(follow, "POLL_S", 0.01)
    yield start
    for server in servers:
        server.over.set()
        server.server.shutdown()


def at(second: int, text: str, zone: str = ".000000001Z") -> str:
    return f"2026-11-28T22:00:{second:02d}{zone} {text}"


def followed(server: LogServer) -> tuple[int, list[str]]:
    lines: list[str] = []
    return follow.follow_run(cast(Kube, server), "demo", say=lambda line: None, show=lines.append), lines


def test_a_connection_that_says_nothing_hides_no_end(kubelet: Callable[..., LogServer]) -> None:
    running, over = job(VOLUME, "Running", "RUNNING"), job(VOLUME)
    server = kubelet([at(1, "one"), "SILENT"], [at(1, "one"), at(2, "two"), "SILENT"], jobs=[running, running, over])
    began = time.monotonic()
    assert followed(server) == (0, ["one", "two"])
    assert time.monotonic() - began < 10
    assert server.asked[0] is None and server.asked[1] <= 2 * follow.OVERLAP_S


def test_lines_of_a_new_file_of_the_kubelets_are_shown_once(kubelet: Callable[..., LogServer]) -> None:
    """After the rotation of a log its first line is a later one; lines of one time are told apart by their number."""
    first = [at(1, "one"), at(2, "two"), at(2, "two"), "failed to watch the file", "SILENT"]
    rotated = [at(2, "two"), at(2, "two"), at(2, "other"), at(3, "three", "Z"), at(3, "late", ".5Z"), "SILENT"]
    last = [at(3, "three", "Z"), at(3, "late", ".500000000Z"), "2026-11-29T00:00:04+02:00 four"]
    running = job(VOLUME, "Running", "RUNNING")
    server = kubelet(first, rotated, last, jobs=[running, running, running, job(VOLUME)])
    code, lines = followed(server)
    expected = ["one", "two", "two", "failed to watch the file", "other", "three", "late", "four"]
    assert (code, lines) == (0, expected)


@pytest.mark.parametrize("error", [StorageError("the storage is away"), AccessDeniedError("denied")])
def test_a_log_that_breaks_off_does_not_end_the_following(error: TrainerError, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr("trainer_app.launch.stored_logs.list_files", away)
    one = job(AWAY, submissionMode="HTTPMode")
    del one["metadata"]["annotations"]["trainer/storage-endpoint"]
    code, said = until_end(one)
    assert code == 0 and str(error) in said
