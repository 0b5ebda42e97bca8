"""What `helm test` does in its pod, and the driver's command on another release's cluster."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from trainer_app.errors import TrainerError
from trainer_app.pod import chart_check, run_file

pytestmark = pytest.mark.unit


class Dashboard(BaseHTTPRequestHandler):
    """Answers /api/version with the token `right`, and 401 without it; `open` answers anyone."""

    open = False

    def do_GET(self) -> None:
        good = self.open or self.headers["Authorization"] == "Bearer right"
        self.send_response(200 if good and self.path == "/api/version" else 401)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Silent."""


@pytest.fixture
def dashboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(chart_check, "PAUSE_S", 0.01)
    with ThreadingHTTPServer(("127.0.0.1", 0), Dashboard) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize("token, said", [("right", "HTTP 200 with the token"), ("", "requires the token")])
def test_a_dashboard_that_answers(dashboard: str, token: str, said: str) -> None:
    assert said in chart_check.check_dashboard(dashboard, token)


def test_a_token_that_is_not_taken(dashboard: str) -> None:
    with pytest.raises(TrainerError, match="HTTP 401"):
        chart_check.check_dashboard(dashboard, "wrong")


def test_a_dashboard_open_to_all(dashboard: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Dashboard, "open", True)
    with pytest.raises(TrainerError, match="token authentication is off"):
        chart_check.check_dashboard(dashboard, "")


def test_no_dashboard_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chart_check, "PAUSE_S", 0.01)
    with pytest.raises(TrainerError, match=r"gave no answer within 0\.1 s"):
        chart_check.check_dashboard("127.0.0.1:1", "", wait_s=0.1)


def test_an_error_is_one_line_and_1(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TRAINER_STORAGE_URI", "ftp://nowhere")
    assert chart_check.main() == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1


def test_the_run_file_is_written_byte_for_byte() -> None:
    text = 'a: "ü" # {{ }}\r\nb: 1e-05\n'
    words = run_file.write_run_file(["tune", "--log", "-"], text)
    assert (words[:2], words[3:]) == (["trainer", "tune"], ["--log", "-"])
    assert Path(words[2]).read_bytes() == text.encode()


def test_no_run_file_is_an_error_in_words(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv(run_file.VARIABLE, raising=False)
    assert run_file.main() == 2
    assert run_file.VARIABLE in capsys.readouterr().err
