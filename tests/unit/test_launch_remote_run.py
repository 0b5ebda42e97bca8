"""What the launcher keeps of a run in its storage, on a folder."""

import json
from pathlib import Path

import pytest

from trainer_app.errors import AlreadyExistsError, NotFoundError, StorageError
from trainer_app.launch import stored_logs
from trainer_app.launch.location import RunLocation
from trainer_app.launch.remote_run import Launch, RemoteRun, format_position

pytestmark = pytest.mark.unit
LAUNCH = Launch("demo", "tune", "team", "demo-1", "0.1.0", "2.60.0", code="ab", image="trainer:1", user="alice")


@pytest.fixture
def stored(tmp_path: Path) -> RemoteRun:
    return RemoteRun.open(str(tmp_path), "demo")


def test_a_run_is_created_again_from_what_is_stored(stored: RemoteRun) -> None:
    stored.claim(LAUNCH, "name: demo\n", {"pools": {"cpu": None}})
    launch, text, values = stored.read_launch()
    assert (launch, text, values) == (LAUNCH, "name: demo\n", {"pools": {"cpu": None}})


def test_a_name_is_taken_once(stored: RemoteRun) -> None:
    stored.claim(LAUNCH, "", {})
    with pytest.raises(AlreadyExistsError, match="trainer resume demo"):
        stored.claim(LAUNCH, "", {})
    stored.undo_claim()
    stored.claim(LAUNCH, "", {})


def test_a_name_that_a_local_run_took_is_taken(stored: RemoteRun) -> None:
    stored.run_store.put("run.json", b"{}")
    with pytest.raises(AlreadyExistsError):
        stored.claim(LAUNCH, "", {})
    assert not stored.run_store.exists("launch/launch.json")


def test_a_resume_names_the_only_submission_that_may_go_on(stored: RemoteRun) -> None:
    stored.claim(LAUNCH, "", {})
    again = Launch(**{**LAUNCH.__dict__, "submission": "demo-2", "former": ("demo-1",)})
    stored.record_resubmission(again)
    assert stored.read_launch()[0] == again
    assert b'"submission": "demo-2"' in stored.run_store.get("submission.json")


def test_nothing_to_create_from(stored: RemoteRun) -> None:
    with pytest.raises(NotFoundError, match=r"run 'demo' can't be created again: .* has no launch.json"):
        stored.read_launch()


@pytest.mark.parametrize("count", ["epochs", "epoch"])  # `epoch` was the count in version 0.1
def test_only_the_answer_to_this_request_counts(stored: RemoteRun, count: str) -> None:
    stored.request_stop("two", "alice")
    answer = {"id": "one", count: 3, "step": 120, "commit": "c1"}
    stored.run_store.put("control/stopped.json", json.dumps(answer).encode())
    assert stored.read_stop("two") is None
    found = stored.read_stop("one")
    assert found and format_position(found) == "step 120 (3 epochs, commit c1)"
    assert stored.read_stop() == found
    stored.clear_stop()
    assert stored.read_stop() is None and not stored.run_store.exists("control/stop.json")


def test_a_damaged_answer_is_an_error(stored: RemoteRun) -> None:
    stored.run_store.put("control/stopped.json", b"[")
    with pytest.raises(StorageError, match=r"control/stopped\.json is damaged"):
        stored.read_stop("one")


def test_attempts_are_those_that_wrote_metrics(stored: RemoteRun) -> None:
    assert stored.count_attempts() == 0
    for key in ("a0001-0000.jsonl", "a0001-0001.jsonl", "a0003-0000.jsonl", "other.txt"):
        stored.run_store.put(f"metrics/{key}", b"")
    assert stored.count_attempts() == 3


def test_logs_are_joined_before_they_are_decoded(stored: RemoteRun, tmp_path: Path) -> None:
    text = "one\nträgt\n".encode()
    cut = text.index(b"\xc3") + 1  # within a character
    stored.run_store.put("logs/driver/a0001.001.log", text[cut:])
    stored.run_store.put("logs/driver/a0001.000.log", text[:cut])
    stored.run_store.put("logs/worker-x/out.000.log", b"two\n")
    where = RunLocation("demo", str(tmp_path), "", "", "")
    lines: list[str] = []
    stored_logs.show_logs(where, workers=False, out=lines.append)
    assert lines == ["one", "trägt"]
    lines.clear()
    stored_logs.show_logs(where, workers=True, out=lines.append)
    assert lines == ["==> worker-x/out <==", "two"]


def test_a_tail_shows_each_line_once(stored: RemoteRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_logs, "POLL_S", 0.0)
    lines: list[str] = []
    tail = stored_logs.LogTail(RunLocation("demo", str(tmp_path), "", "", ""), lines.append, workers=False)
    for text in (b"one\n", b"one\ntwo\n"):
        stored.run_store.put("logs/driver/a0001.000.log", text)
        tail.read()
    tail.read()
    assert lines == ["one", "two"]


def test_no_log_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="run demo has no driver log"):
        stored_logs.show_logs(RunLocation("demo", str(tmp_path), "", "", ""), workers=False, out=print)
