"""--resume of a run that has nothing left to do, as a process that can't import torch or Ray."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from tests.plain_process import trainer
from tests.run_samples import commit, epoch
from trainer_app import config
from trainer_app.records import RunFolder, RunRecord, TrialRecord, trial_name
from trainer_app.storage import open_store

pytestmark = pytest.mark.unit

RUN_FILE = """\
name: mine
seed_everything: 1
model: {class_path: somewhere.Model, init_args: {lr: 1.0e-3}}
scaling: {use_gpu: false}
trainer: {max_epochs: 3}
tune: {metric: acc, mode: max, num_samples: 2, space: {model.init_args.lr: {grid_search: [0.1, 0.2]}}}
"""
NOT_COMPLETE = "needs torch, lightning, ray, not installed here"  # it went on, to where they are needed


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("run.yaml").write_text(RUN_FILE)
    return tmp_path


def trained(done: int, *overrides: str, state: str = "succeeded", **record: Any) -> RunFolder:
    given = config.load(["run.yaml"], overrides)
    about = RunRecord.model_validate({"name": "r", "task": "train", "state": state, "done": done, **record})
    folder = RunFolder.create(open_store("runs"), about, config.dump(given))
    for number in range(done):
        epoch(folder.fit_folder(), number, {"acc": math.nan if number else 0.5})
    return folder


def tuned(states: list[str], reason: str = "", **record: Any) -> RunFolder:
    about = RunRecord.model_validate({"name": "r", "task": "tune", "state": "succeeded", **record})
    folder = RunFolder.create(open_store("runs"), about, RUN_FILE)
    for index, state in enumerate(states):
        found = TrialRecord.model_validate({"trial": trial_name(index), "index": index, "state": state})
        folder.write_trial(found.model_copy(update={"reason": reason}))
    return folder


def resumed(*words: str) -> tuple[int, str, str]:
    ran = trainer(*words, cwd=str(Path.cwd()))
    return ran.returncode, ran.stdout, ran.stderr


@pytest.mark.parametrize("words", [(), ("run.yaml",), ("failure.max_failures=9",), ("trainer.max_epochs=2",)])
def test_a_run_that_reached_its_epochs(words: tuple[str, ...]) -> None:
    folder = trained(3)
    before = {e.key: e.modified for e in folder.run_store.list()}
    target = 2 if "trainer.max_epochs=2" in words else 3
    told = f"run r is complete: 3 of {target} epochs; to go further: trainer.max_epochs=M\n"
    assert resumed("train", *words, "--resume", "r") == (0, told, "")
    assert {e.key: e.modified for e in folder.run_store.list()} == before


def test_machines_are_told_by_the_last_event() -> None:
    folder = trained(3, metric="acc", mode="max")
    commit(folder.fit_folder(), 1, {"acc": 0.5})
    code, out, err = resumed("train", "--resume", "runs/r", "--json")
    assert (code, err) == (0, "")
    (end,) = [json.loads(line) for line in out.splitlines()]
    assert (end["event"], end["state"], end["uri"]) == ("end", "succeeded", folder.uri)
    assert (end["best"]["value"], end["best"]["epoch"]) == (0.5, 0)
    assert end["best"]["checkpoint"].startswith(f"{folder.uri}/checkpoints/")


@pytest.mark.parametrize(
    "words", [("trainer.max_epochs=4",), ("trainer.max_epochs=-1",), ("trainer.max_epochs=5", "run.yaml"), ("--test",)]
)
def test_what_there_is_more_of_goes_on(words: tuple[str, ...]) -> None:
    trained(3)
    code, out, err = resumed("train", *words, "--resume", "r")
    assert (code, out) == (1, "") and NOT_COMPLETE in err and err.count("\n") == 1


@pytest.mark.parametrize("state", ["running", "failed", "interrupted"])
def test_a_run_that_did_not_succeed_goes_on(state: str) -> None:
    trained(3, state=state)
    assert NOT_COMPLETE in resumed("train", "--resume", "r")[2]


def test_a_run_that_something_else_ended() -> None:
    """Early stopping, or steps: with the same limits it would end again."""
    trained(2)
    told = "run r is complete: 2 of 3 epochs; to go further: trainer.max_epochs=M\n"
    assert resumed("train", "--resume", "r") == (0, told, "")
    trained(2, "trainer.max_epochs=-1", "trainer.max_steps=8", name="s")
    told = "run s is complete: 2 epochs; to go further: trainer.max_steps=M\n"
    assert resumed("train", "--resume", "s") == (0, told, "")
    assert NOT_COMPLETE in resumed("train", "--resume", "s", "trainer.max_steps=9")[2]


def test_a_resume_that_is_refused_is_refused_as_early() -> None:
    trained(3)
    code, _, err = resumed("train", "--resume", "r", "run.yaml", "model.init_args.lr=0.5")
    assert code == 2 and "was started with another run file (model.init_args.lr" in err
    assert resumed("tune", "--resume", "r")[0] == 2


def test_a_sweep_whose_trials_are_all_over() -> None:
    """Two samples of a grid of two."""
    tuned(["finished", "stopped", "failed", "finished"])
    told = "run r is complete: 4 of 4 trials; to go further: tune.num_samples=M\n"
    assert resumed("tune", "--resume", "r") == (0, told, "")
    assert NOT_COMPLETE in resumed("tune", "--resume", "r", "tune.num_samples=3")[2]


@pytest.mark.parametrize(
    "states, reason", [(["finished"] * 3, ""), (["finished"] * 3 + ["running"], ""), (["stopped"] * 4, "time budget")]
)
def test_a_sweep_with_trials_left_goes_on(states: list[str], reason: str) -> None:
    tuned(states, reason)
    assert NOT_COMPLETE in resumed("tune", "--resume", "r")[2]


@pytest.mark.parametrize("words", [("test", "r"), ("train", "run.yaml"), ("validate", "--deep", "run.yaml")])
def test_a_plain_install_says_in_one_line_what_it_lacks(words: tuple[str, ...]) -> None:
    trained(3)
    code, out, err = resumed(*words)
    assert (code, out) == (1, "") and err.count("\n") == 1
    assert "install trainer's wheel, or its checkout, with the extra [train]" in err and "pip install" not in err
