"""What the submitter writes to its RayJob, against an API server that keeps what it is asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from trainer_app.errors import FAILED_FOR_GOOD, InputError
from trainer_app.pod import rayjob, submitter
from trainer_app.pod.rayjob import RayJobReporter
from trainer_app.progress_line import Progress

pytestmark = pytest.mark.unit
TAKEN_BACK = {"spec": {"backoffLimit": 0}}


class Api(BaseHTTPRequestHandler):
    """Takes every patch, but for the first ones, which it answers with `codes`."""

    codes: list[int]
    asked: list[Any]

    def do_PATCH(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        code = self.codes.pop(0) if self.codes else 200
        if code == 200:
            self.asked.append((self.path, self.headers["Authorization"], self.headers["Content-Type"], body))
        self.send_response(code)
        self.end_headers()
        self.wfile.write(b'{"message": "no"}')

    def do_GET(self) -> None:
        code = self.codes.pop(0) if self.codes else 200
        self.send_response(code)
        self.end_headers()
        self.wfile.write(b'{"metadata": {"creationTimestamp": "2026-01-31T08:09:10Z"}}')

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Api]]:
    """Without TLS, which the end-to-end tests have."""
    kind = type("Served", (Api,), {"codes": [], "asked": []})
    server = HTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    kind.port = server.server_port  # type: ignore[attr-defined]
    monkeypatch.setattr(rayjob, "HTTPSConnection", lambda host, port, timeout, context: HTTPConnection(host, port))
    monkeypatch.setattr("ssl.create_default_context", lambda cafile: None)
    monkeypatch.setattr(rayjob, "PAUSE_S", 0.01)
    yield kind
    server.shutdown()
    server.server_close()
    thread.join(5)


@pytest.fixture
def reporter(api: Any, tmp_path: Path) -> RayJobReporter:
    (tmp_path / "token").write_text("secret\n")
    return RayJobReporter("team/demo", "127.0.0.1", api.port, tmp_path)


def bodies(api: type[Api]) -> list[Any]:
    return [asked[-1] for asked in api.asked]


def line(epochs: int) -> str:
    return f"{Progress(f'{epochs}/10 epochs', str(epochs), 'val_accuracy=0.9', '2026-01-31T08:09:10Z')}\n"


def annotated(epochs: int) -> Any:
    values = (f"{epochs}/10 epochs", str(epochs), "val_accuracy=0.9", "2026-01-31T08:09:10Z")
    keys = ("trainer/progress", "trainer/epoch", "trainer/metric", "trainer/eta")
    return {"metadata": {"annotations": dict(zip(keys, values, strict=True))}}


def test_progress_in_the_log_becomes_annotations(api: type[Api], reporter: RayJobReporter) -> None:
    text = f"epoch 1/10 step 9\n{line(1)}{line(2)}and"
    reporter.read(text[:30])
    reporter.read(text[30:])
    reporter.read("more\n")
    path = "/apis/ray.io/v1/namespaces/team/rayjobs/demo"
    assert api.asked == [(path, "Bearer secret", "application/merge-patch+json", annotated(2))]


def test_at_most_every_10_s_and_the_rest_at_the_end(api: type[Api], reporter: RayJobReporter) -> None:
    for epochs in (1, 2, 3):
        reporter.read(line(epochs))
    reporter.finish(is_permanent=False)
    reporter.finish(is_permanent=False)
    assert bodies(api) == [annotated(1), annotated(3)]


def test_a_value_that_is_gone_is_removed(api: type[Api], reporter: RayJobReporter) -> None:
    reporter.read(f"{Progress('10/10 epochs', '10')}\n")
    assert bodies(api)[0]["metadata"]["annotations"]["trainer/eta"] is None


@pytest.mark.parametrize("text", ["progress: 1/2 epochs\n", "see progress: 1/2 epochs, epoch: 1\n", "x" * 10**6, "\n"])
def test_other_lines_are_not_sent(api: type[Api], reporter: RayJobReporter, text: str) -> None:
    reporter.read(text)
    reporter.finish(is_permanent=False)
    assert api.asked == []


def test_a_long_value_is_cut(api: type[Api], reporter: RayJobReporter) -> None:
    reporter.read(f"progress: {'x' * 500}, epoch: 1\n")
    assert len(bodies(api)[0]["metadata"]["annotations"]["trainer/progress"]) == 100


def test_a_permanent_failure_takes_the_retries_back(
    api: type[Api], reporter: RayJobReporter, capsys: pytest.CaptureFixture[str]
) -> None:
    """Although the API server does not answer at once, and with what was not yet written."""
    reporter.read(line(1) + line(2))
    reporter.read(line(3))
    api.codes = [500, 503]
    reporter.finish(is_permanent=True)
    assert bodies(api) == [annotated(2), {**annotated(3), **TAKEN_BACK}]
    assert "KubeRay starts no further cluster" in capsys.readouterr().err


def test_a_refusal_is_said_and_is_no_failure(
    api: type[Api], reporter: RayJobReporter, capsys: pytest.CaptureFixture[str]
) -> None:
    api.codes = [403] * 20
    for epochs in range(5):
        reporter.read(line(epochs))
    told = capsys.readouterr().err
    assert told == 'can\'t write to RayJob demo: HTTP 403 {"message": "no"}\n'  # and then it is silent for a minute
    reporter.finish(is_permanent=True)
    assert "KubeRay starts" not in capsys.readouterr().err


def test_when_a_rayjob_was_created_is_read(api: type[Api], reporter: RayJobReporter) -> None:
    api.codes = [403, 500]
    assert reporter.read_creation() == "2026-01-31T08:09:10Z"
    api.codes = [403] * rayjob.TRIES
    assert reporter.read_creation() == ""  # the driver goes by its own clock


def test_the_driver_of_a_schedule_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    env = {
        "TRAINER_SCHEDULED_RAYJOB": "team/nightly-abcde",
        "RAY_DASHBOARD_ADDRESS": "http://head:8265",
        "RAY_JOB_SUBMISSION_ID": "s",
    }
    jobs: list[Any] = []

    def run_to_end(job: Any, entrypoint: str) -> str:
        jobs.append(job)
        return "SUCCEEDED"

    monkeypatch.setattr(submitter, "run_to_end", run_to_end)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr(RayJobReporter, "read_creation", lambda self: f"when {self.namespace}/{self.name} was created")
    monkeypatch.setattr("os.environ", env)
    assert submitter.main() == 0
    assert jobs[0].runtime_env == {"env_vars": {"TRAINER_RAYJOB_CREATED": "when team/nightly-abcde was created"}}
    monkeypatch.setattr("os.environ", {**env, "TRAINER_SCHEDULED_RAYJOB": ""})
    submitter.main()
    assert jobs[1].runtime_env == {} and jobs[1].rayjob.name == ""


def test_without_access_nothing_is_asked(api: type[Api]) -> None:
    reporter = RayJobReporter.from_env({"KUBERNETES_SERVICE_HOST": "10.96.0.1"})
    reporter.read(line(1))
    reporter.finish(is_permanent=True)
    assert api.asked == []


@pytest.mark.parametrize(
    "state, code, taken_back",
    [
        ("FAILED", FAILED_FOR_GOOD, True),
        ("FAILED", InputError.exit_code, True),
        ("FAILED", 1, False),  # a lost worker, a storage that did not answer: KubeRay's retry may help
        ("FAILED", None, False),  # the head was lost
        ("FAILED", 130, False),
        ("SUCCEEDED", 0, False),
        ("STOPPED", None, False),
    ],
)
def test_when_the_retries_are_taken_back(
    api: Any, reporter: RayJobReporter, monkeypatch: pytest.MonkeyPatch, state: str, code: int | None, taken_back: bool
) -> None:
    monkeypatch.setattr(submitter.RayJobClient, "_request", lambda *_: {"status": state, "driver_exit_code": code})
    monkeypatch.setattr(submitter.RayJobClient, "follow", lambda _: None)
    monkeypatch.setattr(RayJobReporter, "from_env", lambda _: reporter)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setenv("RAY_DASHBOARD_ADDRESS", "head:8265")
    monkeypatch.setenv("RAY_JOB_SUBMISSION_ID", "demo-1")
    monkeypatch.setattr("sys.argv", ["submitter", "--", "x"])
    assert submitter.main() == 0
    assert bodies(api) == ([TAKEN_BACK] if taken_back else [])
