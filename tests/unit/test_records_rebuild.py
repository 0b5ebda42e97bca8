"""A run.json that is damaged or gone keeps no run from being read and resumed: it is made again from the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.run_samples import train_run, trial, tune_run
from trainer_app.__main__ import main
from trainer_app.config import loads
from trainer_app.errors import AlreadyExistsError, NotFoundError, StorageError
from trainer_app.records import RunFolder, RunRecord
from trainer_app.results import read_run
from trainer_app.run import cut_short, decision, prepare
from trainer_app.storage import Store, open_store

pytestmark = pytest.mark.unit

RUN_FILE = """\
seed_everything: 7
model: {class_path: m.M}
trainer: {max_epochs: 5}
scaling: {use_gpu: false}
checkpoint: {monitor: val/acc, mode: max}
"""
TUNE = "tune: {metric: val/acc, mode: max, num_samples: 4, space: {model.init_args.lr: {uniform: [0.0, 1.0]}}}\n"
DAMAGE = [
    b"",
    b'{"name": "r", "ta',
    b"[]",
    b"null",
    b"\xff\xfe",
    b'{"name": 7}',
    b"[" * 10_000,
    b"\x00" * 300,
    b"9" * 5000,
]


@pytest.fixture
def storage(tmp_path: Path) -> Store:
    return open_store(str(tmp_path))


@pytest.mark.parametrize("damage", [*DAMAGE, None])
@pytest.mark.parametrize("task", ["train", "tune"])
def test_it_is_made_again_and_named(
    task: str, damage: bytes | None, storage: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (train_run if task == "train" else tune_run)(storage, "r", seed=7).record
    store = storage.child("r")
    store.put("run.yaml", (RUN_FILE + TUNE).encode())
    store.delete("run.json") if damage is None else store.put("run.json", damage)
    folder, _ = prepare.reopen_run(storage, loads(RUN_FILE + TUNE), name="r", task=task)
    made = folder.record
    for name in ("name", "task", "metric", "mode", "seed", "num_samples"):
        assert getattr(made, name) == getattr(before, name), name
    assert made.state == "interrupted" and made.epochs == 5
    assert "run.json is " in folder.problem and "made again" in folder.problem and "\n" not in folder.problem
    assert read_run(storage, "r").checkpoint is not None
    assert main(["results", "r", "--storage", storage.uri]) == 0
    out, err = capsys.readouterr()
    assert "r: " + task in out and err.count("warning: ") == 1 and "run.json is " in err
    folder.update(state="running")
    assert RunFolder.open(storage, "r").problem == ""


def test_what_is_intact_of_it_stays(storage: Store) -> None:
    folder = train_run(storage, "r", folders=["/mine"], state="failed", created=5.0)
    folder.run_store.put("run.yaml", RUN_FILE.encode())
    folder.run_store.put("run.json", folder.run_store.get("run.json").replace(b'"epochs": 5', b'"epochs": "five"'))
    made = RunFolder.open(storage, "r").record
    assert (made.folders, made.state, made.created, made.epochs) == (["/mine"], "failed", 5.0, 5)


def test_another_runs_record_is_not_this_ones(storage: Store) -> None:
    one, other = train_run(storage, "one", seed=1), train_run(storage, "other", state="succeeded")
    one.run_store.put("run.yaml", RUN_FILE.encode())
    one.run_store.put("run.json", other.run_store.get("run.json"))
    opened = RunFolder.open(storage, "one")
    assert (opened.name, opened.record.state) == ("one", "interrupted") and "of another run, other" in opened.problem


def test_without_a_run_file_nothing_can_be_made(storage: Store) -> None:
    folder = train_run(storage, "r")
    for text in (b"", b"\xff", b"model: [", b"[" * 1_000):
        folder.run_store.put("run.yaml", text)
        folder.run_store.put("run.json", b"[]")
        with pytest.raises(StorageError, match=r"run\.json is damaged"):
            RunFolder.open(storage, "r")
    folder.run_store.delete("run.json")
    with pytest.raises(NotFoundError, match="there is no run 'r'"):
        RunFolder.open(storage, "r")


def test_a_submitted_run_stays_its_submissions(storage: Store) -> None:
    folder = train_run(storage, "r", submission="s-1")
    decision.write_owner(folder.run_store, "s-1", task="train")
    folder.run_store.put("run.yaml", RUN_FILE.encode())
    folder.run_store.put("run.json", b"null")
    todo = decision.decide(storage, "r", "s-1")
    assert todo.what == "resume" and todo.record is not None and todo.record.submission == "s-1"


def test_a_trials_record_in_another_trials_folder_is_left_out(storage: Store, caplog: pytest.LogCaptureFixture) -> None:
    folder = tune_run(storage, "r")
    trial(folder, 4, [0.5], state="finished")
    folder.run_store.put("trials/t00004/trial.json", folder.run_store.get("trials/t00001/trial.json"))
    assert [record.trial for record in folder.read_trials()] == ["t00000", "t00001", "t00002", "t00003"]
    assert "of another trial, t00001" in caplog.text
    assert any("of another trial" in problem for problem in read_run(storage, "r").problems)


def test_the_name_of_a_run_whose_record_is_gone_is_not_free(storage: Store) -> None:
    train_run(storage, "r").run_store.delete("run.json")
    with pytest.raises(AlreadyExistsError, match="run r exists in "):
        prepare.check_name_free(storage, "r", task="train")


def test_the_name_of_a_run_whose_start_was_cut_short_is_free(storage: Store) -> None:
    """It could be neither resumed nor started again."""
    folder = RunFolder.create(storage, RunRecord(name="r", task="train"), RUN_FILE)
    folder.run_store.delete("run.yaml")
    prepare.check_name_free(storage, "r", task="train")
    cut_short.make_free(folder.run_store)
    RunFolder.create(storage, RunRecord(name="r", task="train"), RUN_FILE)
    cut_short.make_free(folder.run_store)  # now it is a run
    assert folder.run_store.exists("run.json")
    for record, key in (
        (RunRecord(name="s", task="train", submission="s-1"), "x"),
        (RunRecord(name="s", task="train"), "metrics/a0001-0000.jsonl"),
        (None, "x"),
    ):
        store = storage.child("s")
        store.delete_prefix("")
        store.put("run.json", record.to_json() if record else b"{")
        store.put(key, b"{}")
        with pytest.raises(AlreadyExistsError, match="run s exists in "):
            prepare.check_name_free(storage, "s", task="train")
