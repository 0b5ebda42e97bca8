"""Runs made by version 0.1, before words in their files changed: they are listed, read and resumed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.local.runs import Ran
from trainer_app import checkpoint as ckpt
from trainer_app.__main__ import main
from trainer_app.config import RunConfig, loads, override
from trainer_app.results import load_run
from trainer_app.run import stop
from trainer_app.storage import Store, open_store

pytestmark = [pytest.mark.local, pytest.mark.usefixtures("ray_session")]
RUNS_0_1 = Path(__file__).parents[1] / "data" / "runs_0_1"


@pytest.fixture
def storage(tmp_path: Path) -> Store:
    shutil.copytree(RUNS_0_1, tmp_path / "runs")
    return open_store(str(tmp_path / "runs"))


def config_of(storage: Store, run: str, key: str, value: Any) -> RunConfig:
    """The run's own run file, in the copy's storage, with one key changed."""
    return override(loads(storage.get(f"{run}/run.yaml").decode()), {"storage.uri": storage.uri, key: value})


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out, parse_constant=pytest.fail)


def test_they_are_listed_and_read(storage: Store, capsys: pytest.CaptureFixture[str]) -> None:
    runs = {run["name"]: run for run in shown(capsys, "list", storage.uri)["runs"]}
    assert {name: (run["state"], run["done"], run["problem"]) for name, run in runs.items()} == {
        "before-train": ("succeeded", 2, None),
        "before-stop": ("interrupted", 2, None),
        "before-tune": ("succeeded", 4, None),
    }
    for name in runs:
        found = shown(capsys, "results", name, "--storage", storage.uri)
        assert found["problems"] == [] and found["best"]["value"] == runs[name]["best_value"]
        fits = found["trials"] or [found]
        for fit in fits:
            trial = f"/trials/{fit['trial']}" if "trial" in fit else ""
            folder = storage.child(f"{name}{trial}/checkpoints")
            assert [c["name"] for c in fit["checkpoints"]] == [c.name for c in ckpt.list_commits(folder)]
            # An older version did not record how long a commit took.
            assert fit["history"] == [{**line, "committed": 0.0} for line in lines_of(RUNS_0_1 / f"{name}{trial}")]
            assert [c["epochs"] for c in fit["checkpoints"]][-1:] == [line["epoch"] + 1 for line in fit["history"]][-1:]


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for part in (folder / "metrics").iterdir() for line in part.read_text().splitlines()]


@pytest.mark.parametrize("run", ["before-train", "before-stop"])
def test_a_train_run_is_resumed(storage: Store, run: str) -> None:
    ran = Ran("train", config_of(storage, run, "trainer.max_epochs", 3), run, resume=True)
    assert ran.code == 0 and ran.results.record.attempt == 2 and ran.results.problems == []
    assert [e["epoch"] for e in ran.of("epoch")] == [2]
    assert [line["epoch"] for line in ran.history()] == [0, 1, 2]
    assert [line["step"] for line in ran.history()] == [4, 8, 12]
    assert stop.read_request(storage.child(run)) is None


def test_a_sweep_is_resumed(storage: Store) -> None:
    before = {trial.trial: trial.record for trial in load_run(storage.uri, "before-tune").trials}
    ran = Ran("tune", config_of(storage, "before-tune", "tune.num_samples", 5), "before-tune", resume=True)
    assert ran.code == 0 and ran.results.problems == []
    after = {trial.trial: trial.record for trial in ran.results.trials}
    assert len(before) == 4 and {name: after[name] for name in before} == before
    assert {e["trial"] for e in ran.of("epoch")} <= {"t00004"}
    assert after.keys() - before.keys() == {"t00004"}
