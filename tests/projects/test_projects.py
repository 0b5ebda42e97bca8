"""Twelve projects of other people's kind, each by its own command and by `trainer`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.projects import project, rehearsal
from trainer_app import results
from trainer_app.results.model import RunResults

pytestmark = [pytest.mark.local, pytest.mark.timeout(900)]
IN_CI = ("05-gan",)
WHOLE = [name if name in IN_CI else pytest.param(name, marks=pytest.mark.full) for name in project.NAMES]


def load_run(folder: Path, name: str) -> RunResults:
    run = results.load_run(str(folder / "runs"), name)
    assert run.record.state == "succeeded", run.record.error
    return run


def last_metrics(folder: Path, name: str) -> dict[str, float]:
    return project.last_metrics(load_run(folder, name).fits[0].history)


def test_there_are_twelve() -> None:
    assert len(project.NAMES) == 12


@pytest.mark.parametrize("name", project.NAMES)
def test_a_project_is_rehearsed(name: str, tmp_path: Path) -> None:
    """Built as docs/lightning.md says, and trained, validated and saved for a batch, in one process."""
    one = project.load(name)
    folder = one.copy(tmp_path)
    code, output = rehearsal.run(["validate", "--run", *one.trainer.split()], folder, one.env)
    assert code == 0, output


@pytest.mark.parametrize("name", WHOLE)
def test_a_project_runs_as_by_itself(name: str, tmp_path: Path) -> None:
    """The same metrics and files with one worker; near them with two, which see other batches; a sweep with results."""
    one = project.load(name)
    by_itself, folder = one.copy(tmp_path / "plain"), one.copy(tmp_path / "run")
    plain = one.run_plain(by_itself)
    one.run_trainer(folder)
    kept = project.written_files(folder / "runs/one/artifacts", name)
    assert project.written_files(by_itself, name).keys() <= {*kept, *one.after_fit}
    assert plain[one.metric] == pytest.approx(one.expected, abs=one.within)
    assert last_metrics(folder, "one") == pytest.approx(plain, abs=1e-6)
    assert last_metrics(folder, "two")[one.metric] == pytest.approx(one.expected, abs=one.within)
    trials = load_run(folder, "sweep").fits
    assert len(trials) == 3
    assert all(any(one.metric in line["metrics"] for line in trial.history) for trial in trials)
