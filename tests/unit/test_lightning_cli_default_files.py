"""The default config files of a LightningCLI: where they are looked up, what is wrong in them, what is set over."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from tests.unit.cli_projects.pieces import Data, Net
from trainer_app.cli.validate import report
from trainer_app.config import RunConfig, load
from trainer_app.errors import ConfigError
from trainer_app.lightning_cli import add_import_paths, build_parts, check_code, default_limits
from trainer_app.lightning_cli.user_cli import Construction, construct

pytestmark = pytest.mark.unit

WAYS = {
    "fit": ("{'fit': {'default_config_files': ['configs/*.preset']}}", "{}"),
    "whole": ("{'default_config_files': ['configs/*.preset']}", "fit: {}"),
}
CODE = """
from lightning.pytorch.cli import LightningCLI
from tests.unit.cli_projects.pieces import Data, Net


def main():
    LightningCLI(Net, Data, save_config_callback=None, parser_kwargs=KWARGS)
"""
LOGGER = "{class_path: lightning.pytorch.loggers.CSVLogger, init_args: {save_dir: logs, name: preset}}"
PRESET = f"{{trainer: {{max_epochs: 2, logger: {LOGGER}, callbacks: {{class_path: RichProgressBar}}}}}}"


@pytest.fixture(params=WAYS)
def project(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A project whose run file is in the folder of the default file."""
    kwargs, form = WAYS[request.param]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "preset_cli", raising=False)
    (tmp_path / "configs").mkdir()
    (tmp_path / "preset_cli.py").write_text(CODE.replace("KWARGS", kwargs))
    (tmp_path / "configs/default.preset").write_text(form.replace("{}", PRESET))
    (tmp_path / "configs/run.yaml").write_text(
        "cli: preset_cli:main\nmodel: {width: 5, batch_size: 4}\ndata: {batch_size: 4}\n"
    )
    add_import_paths(tmp_path / "configs")
    return tmp_path


def loaded(*overrides: str) -> RunConfig:
    return load(["configs/run.yaml"], overrides)


def test_they_are_relative_to_the_working_directory_wherever_the_run_file_is(project: Path) -> None:
    trainer = build_parts(loaded(), trainer_kwargs={"accelerator": "cpu"}).trainer
    assert trainer.max_epochs == 2 and trainer.logger is not None and trainer.logger.name == "preset"
    assert default_limits(loaded()) == {"trainer.max_epochs": 2}


def test_else_to_the_folder_of_the_run_file(project: Path) -> None:
    (project / "configs/configs").mkdir()
    (project / "configs/default.preset").rename(project / "configs/configs/default.preset")
    assert default_limits(loaded()) == {"trainer.max_epochs": 2}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("bogus_key: 1", r"^configs/default.preset:1: trainer.bogus_key: unknown key"),
        ("max_epochs: many", r"^configs/default.preset:1: trainer.max_epochs: wrong type or value \(found 'many'\)"),
    ],
)
def test_what_is_wrong_in_one_is_reported_with_its_name(project: Path, wrong: str, said: str) -> None:
    preset = project / "configs/default.preset"
    preset.write_text(preset.read_text().replace("max_epochs: 2", wrong))
    for overrides in ((), ("trainer.callbacks+={class_path: Timer}",)):
        with pytest.raises(ConfigError, match=said) as raised:
            check_code(loaded(*overrides))
        assert len(raised.value.problems) == 1


@pytest.mark.parametrize("key", ["trainer.logger.name", "trainer.logger.init_args.name"])
def test_one_argument_of_a_part_that_only_the_defaults_have(project: Path, key: str) -> None:
    config = loaded(f"{key}=exp1")
    check_code(config)
    logger = build_parts(config, trainer_kwargs={"accelerator": "cpu"}).trainer.logger
    assert logger is not None and logger.name == "exp1" and logger.save_dir == "logs"


def test_an_argument_that_such_a_part_does_not_have(project: Path) -> None:
    with pytest.raises(ConfigError, match=r"^command line: trainer.logger"):
        check_code(loaded("trainer.logger.nam=exp1"))


def test_without_a_cli_the_part_that_is_missing_is_of_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("model: {class_path: my.Net}\ntrainer: {max_epochs: 1}\n")
    with pytest.raises(ConfigError, match=r"^command line: trainer.logger.class_path: is missing"):
        load([file], ["trainer.logger.name=exp1"])


def test_validate_says_the_length_that_the_cli_sets(project: Path) -> None:
    assert any("train: epochs as the LightningCLI sets, else 1000, 1 worker" in x for x in report(["configs/run.yaml"]))
    assert any("train: 2 epochs, 1 worker" in line for line in report(["configs/run.yaml"], deep=True))
    given = report(["configs/run.yaml"], ["trainer.max_epochs=3"])
    assert any("train: 3 epochs, 1 worker" in line for line in given)


STOPPING = {"class_path": "EarlyStopping", "init_args": {"monitor": "loss", "patience": 7}}
BAR = {"class_path": "RichProgressBar", "init_args": {"leave": True}}
FORMS = {
    "parts in their places": [{"init_args": {"patience": 3}}, {"init_args": {"leave": False}}],
    "another class in a place": [{"class_path": "ModelCheckpoint"}, {"class_path": "RichProgressBar"}],
    "fewer": [{"class_path": "EarlyStopping", "init_args": {"monitor": "x"}}],
    "one": {"class_path": "RichModelSummary"},
    "none": None,
    "a part of one": {"init_args": {"patience": 3}},
    "a part, and fewer": [{"init_args": {"patience": 3}}],
    "no class": [{"patience": 3}, {"leave": False}],
    "+ a list": [{"class_path": "RichModelSummary"}],
    "+ one": {"class_path": "RichModelSummary"},
    "+ a part": {"init_args": {"leave": False}},
}


class Preset(LightningCLI):
    defaults: ClassVar[Any] = [STOPPING, BAR]

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.set_defaults({"trainer.callbacks": self.defaults})


def print_config(cli: Callable[..., Any], file: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Return the callbacks that `python main.py fit --print_config` shows, None if it refuses the file."""
    try:
        cli(args=["fit", "--config", str(file), "--print_config"])
    except SystemExit as end:
        shown = capsys.readouterr().out
        return None if end.code else yaml.safe_load(shown)["trainer"]["callbacks"]


@pytest.mark.filterwarnings("ignore:LightningCLI's args parameter")
@pytest.mark.parametrize("form", FORMS)
def test_callbacks_over_a_list_of_defaults_are_those_of_plain_lightning(
    tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    key = "callbacks+" if form.startswith("+") else "callbacks"
    blocks = {"model": {"batch_size": 4}, "data": {"batch_size": 4}, "trainer": {key: FORMS[form]}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(blocks))
    make = functools.partial(Preset, Net, Data, save_config_callback=None)
    expected = print_config(make, tmp_path / "config.yaml", capsys)
    if expected is None and FORMS[form] is not None:
        with pytest.raises(ConfigError, match=r"^trainer.callbacks"):
            construct(make, Construction(blocks, parse_only=True))
        return
    cli = construct(make, Construction(blocks, parse_only=True))
    parser = cli._subcommand_parsers["fit"]
    assert yaml.safe_load(parser.dump(cli.config.fit, skip_unset=False))["trainer"]["callbacks"] == expected
