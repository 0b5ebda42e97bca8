"""The ways in which people write `main.py` and its YAML, each against `python main.py fit --config ...`."""

from __future__ import annotations

import multiprocessing
import pickle
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import LearningRateFinder
from lightning.pytorch.cli import LightningCLI, SaveConfigCallback

from tests.unit.cli_projects import pieces
from tests.unit.lightning_cli_config import FOLDER, PROJECTS
from trainer_app.callbacks.epoch import Policy
from trainer_app.config import RunConfig, dump, load, loads
from trainer_app.config.loader import needs_files
from trainer_app.errors import ConfigError
from trainer_app.lightning_cli import Parts, add_import_paths, build_parts, check_code, resolve_init_args
from trainer_app.lightning_cli.importing import load_object
from trainer_app.records import FitFolder
from trainer_app.storage import open_store
from trainer_app.training import worker

pytestmark = pytest.mark.unit

SHAPES = FOLDER / "shapes"
MODULE = f"{PROJECTS}.shapes.functions"
ENV = {"APP_FIT__DATA__BATCH_SIZE": "8", "APP_FIT__MODEL__WIDTH": "9"}


@pytest.fixture(autouse=True)
def _a_process_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    add_import_paths(SHAPES)
    pieces.FITTED.clear()


def by_itself(monkeypatch: pytest.MonkeyPatch, script: str, files: list[str]) -> tuple[LightningCLI, Any]:
    """The LightningCLI that the project's own command line makes, and the model with which it fits."""
    made: list[LightningCLI] = []
    multiprocessing.set_start_method(None, force=True)
    options = [part for file in files for part in ("--config", str(SHAPES / file))]
    parse = LightningCLI.parse_arguments

    def record(cli: LightningCLI, *args: Any) -> None:
        made.append(cli)
        parse(cli, *args)

    defaults = LightningCLI.__init__.__defaults__
    with monkeypatch.context() as patch:
        patch.setattr(sys, "argv", [script, "fit", *options])
        patch.setattr(LightningCLI, "parse_arguments", record)
        without_saving = tuple(None if default is SaveConfigCallback else default for default in defaults)
        patch.setattr(LightningCLI.__init__, "__defaults__", without_saving)
        defined = runpy.run_path(str(SHAPES / script), run_name="__main__").values()
    for cls in [value for value in defined if isinstance(value, type) and value.__module__ == "__main__"]:
        cls.__qualname__ = f"Own{cls.__name__}"  # jsonargparse refuses short names that two classes have
    return made[0], pieces.FITTED[0]


def by_us(files: list[str], cli: str) -> RunConfig:
    """The run file as a worker reads it."""
    return loads(dump(load([SHAPES / file for file in files], [f"cli={cli}"])))


def arguments(cli: LightningCLI) -> Any:
    """What was parsed, without the files that it was in, and what Ray decides."""
    parsed = cli.config.get("fit", cli.config).as_dict()
    parsed["trainer"] = {k: v for k, v in parsed["trainer"].items() if k not in ("accelerator", "devices")}
    parsed.pop("config", None)
    return without_paths(parsed)


def without_paths(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: without_paths(v) for k, v in value.items() if k != "__path__"}
    return value.replace("__main__.", "typed.") if isinstance(value, str) else value


CASES: list[tuple[str, list[str], dict[str, str]]] = [
    ("main.py", ["main.yaml"], {}),
    ("added.py", ["added.yaml"], {}),
    ("added.py", ["added.yaml", "added.more.yaml"], {}),
    ("added.py", ["added.yaml", "added.base.yaml", "added.more.yaml", "added.more.yaml"], {}),
    ("added.py", ["added.yaml"], ENV),
    ("typed.py", ["typed.yaml"], {}),
    ("typed.py", ["factory.yaml"], {}),
]


@pytest.mark.parametrize(("script", "files", "env"), CASES)
def test_a_script_is_built_as_by_python(
    monkeypatch: pytest.MonkeyPatch, script: str, files: list[str], env: dict[str, str]
) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    own, own_model = by_itself(monkeypatch, script, files)
    config = by_us(files, script)
    check_code(config)
    assert resolve_init_args(config) == config
    parts = build_parts(config, trainer_kwargs={"accelerator": "cpu"})
    assert arguments(parts.cli) == arguments(own)
    hparams = repr(dict(own_model.hparams)).replace("__main__", Path(script).stem).replace("Own", "")
    assert repr(dict(parts.model.hparams)) == hparams  # the classes are not the same objects
    seen = repr(getattr(own_model, "seen", None)).replace("Own", "")
    assert repr(getattr(parts.model, "seen", None)) == seen
    assert [type(c) for c in parts.trainer.callbacks] == [type(c) for c in own.trainer.callbacks]
    pieces.FITTED.clear()
    parts.trainer.fit(parts.model, datamodule=parts.datamodule)
    pairs = zip(parts.model.state_dict().values(), own_model.state_dict().values(), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in pairs)


FOUR = [
    ("main.py", "main.py", ["main.yaml"]),
    ("functions.py", f"{MODULE}:prints", ["functions.yaml"]),
    ("added.py", f"{PROJECTS}.shapes.added:AddedCLI.made", ["added.yaml"]),
    ("added.py", "added.py", ["added.yaml", "added.more.yaml"]),
]


@pytest.mark.parametrize(("script", "cli", "files"), FOUR, ids=["1 script", "2 function", "3 class", "4 two files"])
def test_the_four_shapes_of_case_61_train(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str, cli: str, files: list[str]
) -> None:
    _, own_model = by_itself(monkeypatch, script, files)
    own = float(own_model.trainer.callback_metrics["loss"])
    lines: list[dict[str, Any]] = []
    stopped = worker.fit(
        by_us(files, cli),
        FitFolder(open_store(str(tmp_path / "run"))),
        policy=Policy(1, None, None, mode="min"),
        report=lines.append,
        trainer_kwargs={"devices": 1, "accelerator": "cpu"},
    )
    assert not stopped and len(lines) == own_model.trainer.max_epochs
    assert lines[-1]["metrics"]["loss"] == own


def test_what_a_script_defines_can_be_pickled_and_named_again() -> None:
    config = by_us(["main.yaml"], "main.py")
    check_code(config)
    cls = type(build_parts(config).model)
    assert type(build_parts(config).model) is cls, "what can be done once in a process is done once"
    assert (cls.__module__, cls.Inner.__module__, sys.modules["main"].Model) == ("main", "main", cls)
    assert pickle.loads(pickle.dumps(cls)) is cls  # noqa: S301
    assert load_object("model.class_path", "__main__.Model") is cls
    assert sys.modules["__main__"].__dict__.get("Model") is None and sys.path[0] == str(SHAPES)
    assert cls.__init__.__annotations__["batch_size"] is int, "nothing that this package imports from __future__"


def built(name: str) -> Parts:
    return build_parts(by_us(["functions.yaml"], f"{MODULE}:{name}"))


@pytest.mark.parametrize("name", ["prints", "made", "partial", "HookedCLI"])
def test_what_follows_the_construction_is_not_run(name: str) -> None:
    parts = built(name)
    assert (parts.trainer.global_step, pieces.FITTED) == (0, [])
    assert getattr(parts.model, "extra", None) == (2 if name == "HookedCLI" else None)
    parts.trainer.fit(parts.model, datamodule=parts.datamodule)
    assert [parts.model] == pieces.FITTED


def test_what_is_changed_before_fit_is_kept() -> None:
    parts = built("fits")
    assert [type(c) for c in parts.trainer.callbacks].count(pieces.Probe) == 1
    assert (parts.model.extra, parts.trainer.max_epochs, pieces.FITTED) == (1, 1, [])


def test_a_tuner_runs_before_the_fit() -> None:
    parts = built("tunes")
    assert (parts.model.found, parts.trainer.global_step) == (4, 0)
    assert not [c for c in parts.trainer.callbacks if isinstance(c, LearningRateFinder)]
    parts.trainer.fit(parts.model, datamodule=parts.datamodule)
    assert parts.trainer.current_epoch == 1


def test_the_model_and_the_loaders_of_fit_are_those_of_the_run() -> None:
    parts = built("fits_another")
    assert parts.model.hparams["width"] == 9
    parts.trainer.fit(parts.model, datamodule=parts.datamodule)
    assert parts.trainer.global_step == 4


def test_errors_before_the_fit_are_the_users() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        built("fails")
    with pytest.raises(ConfigError, match=r"ckpt_path='some\.ckpt'; write ckpt_path in the run file"):
        built("resumes")


def test_a_script_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match=r"cli: no such file \(found 'none\.py'\)"):
        check_code(by_us(["main.yaml"], "none.py"))
    with pytest.raises(ConfigError, match=r"model: no such file"):
        load([SHAPES / "main.yaml"], ["cli=main.py", "model=labels.yaml"])


def test_an_appended_callback_that_is_wrong_is_named() -> None:
    key, wrong = "trainer.callbacks+.0.class_path", "{class_path: tests.unit.cli_projects.pieces.Prob}"
    config = load([SHAPES / "added.yaml"], ["cli=added.py", f"trainer.callbacks+={wrong}"])
    with pytest.raises(ConfigError) as raised:
        check_code(config)
    assert [(problem.key, problem.file) for problem in raised.value.problems] == [(key, "command line")]


def test_a_file_with_files_in_it_is_sent_as_one() -> None:
    config = load([SHAPES / "typed.yaml"], ["cli=typed.py"])
    assert config.model is not None and config.model["init_args"]["mode"] == "b"
    text = (SHAPES / "typed.yaml").read_text() + "cli: typed.py\n"
    assert needs_files(text) and not needs_files(dump(config))


def test_a_block_that_the_run_and_the_cli_know_is_refused(tmp_path: Path) -> None:
    """Its ModelCheckpoint would never see it."""
    config = loads("cli: clashing:ClashingCLI\nseed_everything: 1\ncheckpoint: {monitor: loss, mode: min}\n")
    (tmp_path / "clashing.py").write_text(CLASHING)
    with pytest.raises(
        ConfigError, match=r"run.yaml:3: checkpoint: .* argument of the cli; .*arguments: {checkpoint: "
    ):
        check_code(config)
    own = "{checkpoint: {monitor: loss, mode: min}}"
    check_code(loads(f"cli: clashing:ClashingCLI\narguments: {own}\ncheckpoint: {{keep: 3}}\n"))


def test_what_a_project_does_with_its_config_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A SaveConfigCallback of its own logs the parsed config; no file is written where one of a run before may be."""
    monkeypatch.chdir(tmp_path)
    saver = "class Saver(SaveConfigCallback):\n    def save_config(self, trainer, module, stage):\n"
    saver += "        module.saved = self.parser.dump(self.config, skip_none=False)\n\n\n"
    text = CLASHING.replace("class Clash", saver + "class Clash").replace(
        "(SelfFed)", "(SelfFed, save_config_callback=Saver)"
    )
    (tmp_path / "saving.py").write_text(text.replace("import LightningCLI", "import LightningCLI, SaveConfigCallback"))
    (tmp_path / "config.yaml").write_text("of a run before")
    trainer = "{max_epochs: 1, logger: false, enable_progress_bar: false}"
    parts = build_parts(loads(f"cli: saving:ClashingCLI\nmodel: {{width: 7}}\ntrainer: {trainer}\n"))
    parts.trainer.fit(parts.model)
    assert "width: 7" in parts.model.saved
    assert (tmp_path / "config.yaml").read_text() == "of a run before"


CLASHING = """
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningCLI
from tests.unit.cli_projects.pieces import SelfFed


class ClashingCLI(LightningCLI):
    def __init__(self):
        super().__init__(SelfFed)

    def add_arguments_to_parser(self, parser):
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
"""
