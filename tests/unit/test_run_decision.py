"""What a submission's driver begins with: records in a real folder, and the command `trainer` on them."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit import fake_driver
from tests.unit.test_checkpoint import commit
from tests.unit.test_run_request import RUN_FILE
from trainer_app.__main__ import main
from trainer_app.errors import FAILED_FOR_GOOD, InputError, StorageError
from trainer_app.records import RunFolder, RunRecord, TrialRecord
from trainer_app.run import decision, documents, lease, lease_file, stop
from trainer_app.run.identity import this_process
from trainer_app.storage import Store, open_store

pytestmark = pytest.mark.unit
Emit = fake_driver.Emit


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(RUN_FILE)
    for name, value in (("SUBMISSION", "s-1"), ("RUN", "toy-1"), ("STOP_LINGER_S", "0.1")):
        monkeypatch.setenv(f"TRAINER_{name}", value)
    return open_store(str(tmp_path / "from-file"))


def written(storage: Store, **fields: Any) -> RunFolder:
    record = RunRecord(**{"name": "toy-1", "task": "tune", "submission": "s-1", **fields})
    return RunFolder.create(storage, record, RUN_FILE)


def what(storage: Store, mine: str = "s-1") -> str:
    decided = decision.decide_under_lease(storage, "toy-1", mine, task="tune", say=lambda text: None)
    lease.release(storage.child("toy-1"))
    return decided.what


def test_nothing_there_is_created_and_claimed(storage: Store) -> None:
    assert what(storage) == "create"
    claimed = documents.read(storage.child("toy-1"), "submission.json")
    assert claimed is not None and (claimed["submission"], claimed["run"]) == ("s-1", "toy-1")
    assert what(storage) == "create"  # its driver was lost before it had created the run


@pytest.mark.parametrize(
    "fields, decided",
    [
        ({"state": "running"}, "resume"),
        ({"state": "interrupted"}, "resume"),
        ({"state": "failed", "final": False}, "resume"),
        ({"state": "failed", "final": True}, "replay"),
        ({"state": "succeeded"}, "replay"),
    ],
)
def test_the_same_submission_goes_on_or_says_it_again(storage: Store, fields: dict[str, Any], decided: str) -> None:
    written(storage, **fields)
    assert what(storage) == decided


@pytest.mark.parametrize("state", ["running", "interrupted", "failed", "succeeded"])
def test_a_person_goes_on_with_any_end(storage: Store, state: Any) -> None:
    """`trainer resume` writes a new id beside the records of the old one."""
    written(storage, state=state, final=True, submission="s-0")
    documents.write(storage.child("toy-1"), "submission.json", {"submission": "s-1"})
    assert what(storage) == "resume"


@pytest.mark.parametrize("owner", ["s-0", None])
def test_another_submissions_run_is_refused(storage: Store, owner: str | None, capsys: Any) -> None:
    written(storage, submission=owner)
    before = sorted(entry.key for entry in storage.list())
    assert main(["tune", "run.yaml", "--log", "-"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "run toy-1 in" in line and "not to s-1" in line and (owner or "by hand") in line
    assert sorted(entry.key for entry in storage.list()) == before


@pytest.mark.parametrize(
    "now, words",
    [
        ("toy-1-aaaaa", ["run toy-1 resumes in place, on toy-1-aaaaa"]),
        ("toy-1-bbbbb", ["run toy-1 resumes on a new cluster, toy-1-bbbbb (it was on toy-1-aaaaa)"]),
        ("", []),
    ],
)
def test_it_says_whether_the_cluster_is_a_new_one(
    storage: Store, monkeypatch: pytest.MonkeyPatch, now: str, words: list[str]
) -> None:
    written(storage, state="running")
    for cluster, expected in (("toy-1-aaaaa", []), (now, words)):
        monkeypatch.setenv("RAY_CLUSTER_NAME", cluster)
        said: list[str] = []
        decision.decide_under_lease(storage, "toy-1", "s-1", task="tune", say=said.append)
        lease.release(storage.child("toy-1"))
        assert said == expected


def test_a_start_that_was_cut_short_begins_again(storage: Store) -> None:
    storage.child("toy-1").put("run.json", RunRecord(name="toy-1", task="tune", submission="s-1").to_json())
    assert what(storage) == "create"
    assert not storage.exists("toy-1/run.json")


def test_a_stop_holds_until_somebody_resumes(storage: Store) -> None:
    folder = written(storage, state="interrupted")
    documents.write(folder.run_store, stop.REQUEST, {"id": "stop-1", "asked": 1.0, "by": "me"})
    assert main(["tune", "run.yaml", "--log", "-"]) == 130
    answer = documents.read(folder.run_store, stop.ANSWER)
    assert answer is not None and (answer["id"], answer["epochs"], answer["commit"]) == ("stop-1", 0, None)
    stop.withdraw_request(folder.run_store)
    assert what(storage) == "resume"


def test_a_stop_of_a_sweep_names_every_unfinished_trial(storage: Store, tmp_path: Path) -> None:
    """As the driver that was running answers it: a trial without a commit begins anew."""
    folder = written(storage, state="interrupted")
    for index, epochs in enumerate((4, 2, 1, 0)):
        trial, state = f"t{index}", "running" if index else "finished"
        folder.write_trial(TrialRecord(trial=trial, index=index, state=state, params={}))
        if epochs:
            commit(folder.fit_folder(trial).checkpoints, tmp_path, epochs)
    documents.write(folder.run_store, stop.REQUEST, {"id": "stop-1", "asked": 1.0, "by": "me"})
    assert main(["tune", "run.yaml", "--log", "-"]) == 130
    answer = documents.read(folder.run_store, stop.ANSWER) or {}
    assert answer["commit"] == answer["trials"]["t1"]["commit"] is not None
    assert {trial: at["epochs"] for trial, at in answer["trials"].items()} == {"t1": 2, "t2": 1, "t3": 0}


def test_what_a_waited_for_driver_did_counts(storage: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It finished while this one waited for its lease."""
    monkeypatch.setattr(lease, "POLL_S", 0.01)
    folder = written(storage, state="running")
    other = replace(this_process(), host="head-2", machine="elsewhere")
    document = {"holder": other.name, "expires": time.time() + 30, **asdict(other)}
    documents.write(folder.run_store, lease_file.KEY, document)

    def finish(text: str) -> None:
        folder.update(state="succeeded")
        documents.write(folder.run_store, lease_file.KEY, {**document, "expires": 0.0})

    assert decision.decide_under_lease(storage, "toy-1", "s-1", task="tune", say=finish).what == "replay"


NO_TORCH = """
import sys
for name in ("torch", "ray", "lightning"):
    sys.modules[name] = None
from trainer_app.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("code, expected", [(1, FAILED_FOR_GOOD), (2, 2)])
def test_a_failure_is_said_again_without_torch_and_ray(storage: Store, code: int, expected: int) -> None:
    written(storage, state="failed", final=True, exit_code=code, error="ValueError: no", traceback="Traceback: here\n")
    words = [sys.executable, "-c", NO_TORCH, "tune", "run.yaml", "--log", "-"]
    began = time.monotonic()
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert time.monotonic() - began < 10
    assert done.returncode == expected, done.stderr
    assert ("Traceback: here" in done.stderr) is (code == 1)
    assert done.stderr.splitlines()[-1].endswith("ValueError: no")
    assert "failed already, in attempt 1: nothing was started" in done.stderr


def driven(monkeypatch: pytest.MonkeyPatch, scenario: Any) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = []
    for name, module in fake_driver.install(scenario, calls).items():
        monkeypatch.setitem(sys.modules, name, module)
    return calls


def test_what_kept_a_run_from_beginning_is_said_again(storage: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A class that is not in the image: found out once, by a driver that has imported torch."""

    def refuse(emit: Emit) -> int:
        raise InputError("model.class_path: no module named nowhere")

    calls = driven(monkeypatch, refuse)
    for _ in range(3):
        assert main(["tune", "run.yaml", "--log", "-"]) == 2
    assert len(calls) == 1
    record = RunFolder.open(storage, "toy-1").record
    assert (record.state, record.final, record.attempt, record.exit_code) == ("failed", True, 0, 2)
    assert record.error == "model.class_path: no module named nowhere"
    documents.write(storage.child("toy-1"), "submission.json", {"submission": "s-2"})
    assert what(storage, "s-2") == "create"  # a person's resume, with a better run file


def test_a_storage_that_did_not_answer_is_asked_again(storage: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(emit: Emit) -> int:
        raise StorageError("no answer")

    calls = driven(monkeypatch, fail)
    for _ in range(2):
        assert main(["tune", "run.yaml", "--log", "-"]) == 1
    assert len(calls) == 2 and [call["resume"] for call in calls] == [False, False]


def test_the_driver_goes_on_under_its_lease_and_its_output_is_kept(
    storage: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = written(storage, state="running")
    seen: list[Any] = []

    def quick(emit: Emit) -> int:
        print("the driver prints")
        seen.append(documents.read(folder.run_store, lease_file.KEY))
        return 0

    calls = driven(monkeypatch, quick)
    assert main(["tune", "run.yaml", "--log", "x.log"]) == 0
    assert [call["resume"] for call in calls] == [True]
    assert seen[0]["submission"] == "s-1" and seen[0]["expires"] > time.time()
    assert (documents.read(folder.run_store, lease_file.KEY) or {})["expires"] == 0
    assert b"the driver prints" in folder.run_store.get("logs/driver/a0002.000.log")


def test_after_a_stop_the_driver_lingers(storage: Store, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    folder = written(storage, state="running")
    monkeypatch.setenv("TRAINER_STOP_LINGER_S", "0.5")

    def stopping(emit: Emit) -> int:
        documents.write(folder.run_store, stop.REQUEST, {"id": "stop-1"})
        stop.write_answer(folder.run_store, {"epochs": 1, "step": 4, "commit": "c"})
        return 130

    driven(monkeypatch, stopping)
    began = time.monotonic()
    assert main(["tune", "run.yaml", "--log", "-"]) == 130
    assert time.monotonic() - began >= 0.5
    assert "waiting up to 0.5 s for the cluster to be suspended" in capsys.readouterr().err


def test_a_run_by_hand_beside_a_live_driver_is_refused(storage: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRAINER_SUBMISSION")
    folder = written(storage, state="running", submission=None)
    other = replace(this_process(), host="head-2", machine="elsewhere")
    theirs = {"holder": other.name, "expires": time.time() + 30, **asdict(other)}
    documents.write(folder.run_store, lease_file.KEY, theirs)
    calls = driven(monkeypatch, fake_driver.quick)
    words = ["tune", "run.yaml", "--resume", "toy-1", "--log", "-"]
    assert main(words) == 2 and calls == []
    documents.write(folder.run_store, lease_file.KEY, {"holder": other.name, "expires": 0.0, **asdict(other)})
    assert main(words) == 0 and len(calls) == 1
