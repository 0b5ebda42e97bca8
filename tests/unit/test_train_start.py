"""Where a new run starts: Lightning's `ckpt_path`, or weights alone; never from scratch without a word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.unit.test_epoch_reporter import NOTED, Case, Plain, fit
from trainer_app.checkpoint import list_commits
from trainer_app.config import RunConfig, loads
from trainer_app.errors import ConfigError, InputError
from trainer_app.records import FitFolder
from trainer_app.run import start_files
from trainer_app.storage import open_store
from trainer_app.training import start

pytestmark = [pytest.mark.unit, pytest.mark.filterwarnings("ignore")]

MODEL = "model: {class_path: tests.unit.test_epoch_reporter.Plain}\n"


def config(text: str) -> RunConfig:
    return loads(MODEL + text)


@pytest.mark.parametrize("word", ["best", "hpc", "registry", "registry:name:version:1"])
def test_lightnings_words_without_a_meaning_here_are_refused_by_key(word: str) -> None:
    with pytest.raises(ConfigError, match=r"^run\.yaml:2: ckpt_path: .*; a path or a URI of a checkpoint; or --resume"):
        config(f"ckpt_path: '{word}'\n")


def test_last_is_lightnings_and_said(tmp_path: Path) -> None:
    last = config("ckpt_path: last\n")
    assert "last is the newest file of the project's ModelCheckpoint; without one it starts anew" in last.notes[0]
    start_files.check_start_files(last)
    found = start.find_start(last, FitFolder(open_store(str(tmp_path))), tmp_path / "from")
    assert (found.path, found.resumed, found.weights_only) == ("last", None, True)
    last = config("ckpt_path: last\nweights_only: false\n")
    assert start.find_start(last, FitFolder(open_store(str(tmp_path))), tmp_path / "from").weights_only is False


@pytest.mark.parametrize("key", ["ckpt_path", "weights"])
@pytest.mark.parametrize("path", ["none.ckpt", "hparams", "file:///nowhere/none.ckpt"])
def test_a_file_that_is_not_there_is_refused_by_key(key: str, path: str) -> None:
    with pytest.raises(ConfigError, match=rf"^run\.yaml:2: {key}: there is no such file .*{path}"):
        start_files.check_start_files(config(f"{key}: {path}\n"))


def test_one_of_both() -> None:
    with pytest.raises(ConfigError, match=r"weights: goes without ckpt_path.*keep one"):
        config("ckpt_path: a.ckpt\nweights: b.ckpt\n")


@pytest.fixture(scope="module")
def commit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a commit of 2 epochs."""
    fitted = fit(Case("Plain", trainer={"max_epochs": 2}), tmp_path_factory.mktemp("other") / "unit")
    return Path(list_commits(fitted.fit_folder.checkpoints)[-1].uri)


@pytest.mark.parametrize("form", ["folder", "file", "URI", "URI of the folder", "relative"])
def test_a_path_and_a_uri_mean_the_same(
    form: str, commit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forms = {"folder": f"{commit}", "file": f"{commit}/checkpoint.ckpt", "relative": "checkpoint.ckpt"}
    path = {**forms, "URI": f"file://{commit}/checkpoint.ckpt", "URI of the folder": f"file://{commit}"}[form]
    for key in ("ckpt_path", "weights"):
        monkeypatch.chdir(commit)
        checked = config(f"{key}: {path}\n")
        start_files.check_start_files(checked)
        absolute = start_files.with_absolute_files(checked)
        monkeypatch.chdir(tmp_path)  # a worker's
        found = start.find_start(absolute, FitFolder(open_store(str(tmp_path / "unit"))), tmp_path / "from")
        named = found.path if key == "ckpt_path" else found.weights
        assert named is not None and Path(named).read_bytes() == Path(commit, "checkpoint.ckpt").read_bytes()
        assert (found.path is None) is (key == "weights") and found.resumed is None


@pytest.mark.parametrize("weights_only", [True, False, None])
def test_weights_only_is_obeyed(weights_only: bool | None, commit: Path, tmp_path: Path) -> None:
    text = f"ckpt_path: {commit}\n" + ("" if weights_only is None else f"weights_only: {str(weights_only).lower()}\n")
    found = start.find_start(config(text), FitFolder(open_store(str(tmp_path))), tmp_path / "from")
    assert found.weights_only is weights_only


class Weighted(Case):
    """A case that starts from weights."""

    @property
    def config(self) -> RunConfig:
        return super().config.model_copy(update={"weights": WEIGHTS["now"]})


WEIGHTS: dict[str, Any] = {}


def test_weights_begin_a_new_run_at_epoch_0(commit: Path, tmp_path: Path) -> None:
    WEIGHTS["now"] = config(f"weights: {commit}\n").weights
    fitted = fit(Weighted("Plain", trainer={"max_epochs": 1}), tmp_path / "unit")
    scratch = fit(Case("Plain", trainer={"max_epochs": 1}), tmp_path / "scratch")
    assert [epoch for epoch, _ in NOTED] == [0, 0, 0]
    assert [r["steps"] for r in fitted.reports] == [3]
    assert fitted.reports[0]["metrics"]["loss"] != scratch.reports[0]["metrics"]["loss"]


def loading(tmp_path: Path, weights: dict[str, Any], *, strict: bool = True) -> Plain:
    torch.save(weights, tmp_path / "w.pt")
    model = Plain()
    text = f"weights: {{path: w.pt, strict: {str(strict).lower()}}}\n"
    start.load_weights(model, config(text), str(tmp_path / "w.pt"))
    return model


def test_what_is_missing_and_unexpected_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ones = {name: torch.ones_like(value) for name, value in Plain().state_dict().items()}
    other = {**ones, "net.0.bias": torch.ones(3), "head.weight": torch.ones(1)}
    del other["net.2.bias"]
    text = "missing: net.2.bias (1); unexpected: head.weight (1); of another shape: net.0.bias (1)"
    with pytest.raises(InputError) as refused:
        loading(tmp_path, other)
    advice = "to load what fits: weights: {path: PATH, strict: false}"
    assert str(refused.value) == f"weights: w.pt is not of this model; {text}; {advice}"
    model = loading(tmp_path, other, strict=False)
    assert f"weights of w.pt that are not loaded: {text}" in capfd.readouterr().err
    assert torch.equal(model.state_dict()["net.0.weight"], ones["net.0.weight"])
    assert not torch.equal(model.state_dict()["net.0.bias"], torch.ones(8))
    assert all(map(torch.equal, loading(tmp_path, {"state_dict": ones}).state_dict().values(), ones.values()))


def test_what_is_no_checkpoint_says_so(tmp_path: Path) -> None:
    Path(tmp_path, "w.pt").write_bytes(b"x")
    with pytest.raises(InputError, match=r"^weights: w\.pt can't be loaded: "):
        start.load_weights(Plain(), config("weights: w.pt\n"), str(tmp_path / "w.pt"))
