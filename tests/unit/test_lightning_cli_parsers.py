"""What a project passes to its parsers, its subcommands, and imports of the other Lightning package."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from trainer_app.config import loads
from trainer_app.errors import ConfigError
from trainer_app.lightning_cli import Parts, add_import_paths, build_parts, check_code

pytestmark = pytest.mark.unit

_numbers = itertools.count()
VERBS = ("fit", "validate", "test", "predict")
HEAD = """
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from tests.unit.cli_projects.pieces import SelfFed

FILES = {"default_config_files": ["wide.yaml"]}


class MoreTrainer(Trainer):
    def fit_twice(self, model, **kwargs):
        \"\"\"Fit two times.\"\"\"


class More(LightningCLI):
    @staticmethod
    def subcommands():
        return {**LightningCLI.subcommands(), "fit_twice": {"model"}}


class Bound(More):
    def subcommands(self):
        return super().subcommands()


class Quiet(LightningArgumentParser):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, exit_on_error=True, **kwargs)


class Filed(LightningCLI):
    def init_parser(self, **kwargs):
        parser = super().init_parser(**kwargs)
        if not hasattr(self, "parser"):
            parser.default_config_files = ["blocks.yaml"]
        return parser


class Made(LightningCLI):
    def init_parser(self, **kwargs):
        return super().init_parser(env_prefix="MINE")


class Other(LightningCLI):
    @staticmethod
    def subcommands():
        return {"test": LightningCLI.subcommands()["test"]}
"""


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Write a project's script, and return what names it in a run file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    add_import_paths(tmp_path)
    (tmp_path / "wide.yaml").write_text("model: {width: 9}\n")
    (tmp_path / "blocks.yaml").write_text("fit: {model: {width: 9}}\nvalidate: {model: {width: 3}}\n")

    def write(text: str) -> str:
        name = f"parsers{next(_numbers)}.py"
        (tmp_path / name).write_text(text)
        return name

    return write


@pytest.mark.parametrize(
    ("call", "width"),
    [
        (f"LightningCLI(SelfFed, parser_kwargs={{verb: dict(FILES) for verb in {VERBS}}})", 9),
        ('LightningCLI(SelfFed, parser_kwargs={"validate": FILES, "default_env": True})', 4),
        (f"cli = LightningCLI(SelfFed, run=False, parser_kwargs=dict.fromkeys({VERBS}, FILES))", 4),
        ('More(SelfFed, trainer_class=MoreTrainer, parser_kwargs={"fit": FILES, "fit_twice": FILES})', 9),
        ('Bound(SelfFed, trainer_class=MoreTrainer, parser_kwargs={"fit": FILES, "fit_twice": FILES})', 9),
        ('LightningCLI(SelfFed, parser_class=Quiet, parser_kwargs={"fit": FILES, "test": FILES})', 9),
        ('LightningCLI(SelfFed, parser_kwargs={"default_config_files": ["blocks.yaml"]})', 9),
        ("Filed(SelfFed)", 9),
        ("Made(SelfFed, parser_kwargs={'test': FILES})", 4),
    ],
)
def test_parsers_are_made_as_by_the_project(script: Callable[[str], str], call: str, width: int) -> None:
    assert check_and_build(f"cli: {script(HEAD + call)}\n").model.hparams["width"] == width


def check_and_build(text: str) -> Parts:
    config = loads(text)
    check_code(config)
    return build_parts(config, trainer_kwargs={"accelerator": "cpu", "logger": False})


def refusal(name: str, model: str = "{}") -> str:
    with pytest.raises(ConfigError) as raised:
        check_and_build(f"cli: {name}\nmodel: {model}\n")
    assert [problem.key.split(".")[0] for problem in raised.value.problems] in (["cli"], ["model"])
    return str(raised.value)


@pytest.mark.parametrize("call", ["Made(SelfFed)", "LightningCLI(SelfFed, parser_class=Quiet)"])
def test_an_unknown_argument_is_named_whatever_makes_the_parser(script: Callable[[str], str], call: str) -> None:
    assert "model.widht" in refusal(script(HEAD + call), "{widht: 3}")


def test_subcommands_without_fit_are_refused(script: Callable[[str], str]) -> None:
    assert "its subcommands() have no fit, only test; add fit to them" in refusal(script(HEAD + "Other(SelfFed)"))


OLD = """
import pytorch_lightning as pl
from {package}.cli import LightningCLI
from tests.unit.cli_projects.pieces import SelfFed

class Old(pl.LightningModule):
    def __init__(self, width: int = 1):
        super().__init__()

class OldData(pl.LightningDataModule): pass

def make(width: int = 1) -> Old: return Old(width)

class Adds(LightningCLI):
    def add_arguments_to_parser(self, parser):
        parser.add_lightning_class_args(pl.callbacks.EarlyStopping, "stopping")

"""


@pytest.mark.parametrize("call", ["LightningCLI(Old)", "LightningCLI(Old, run=False)", "Adds(SelfFed)"])
def test_a_script_on_pytorch_lightning_says_what_to_change(
    script: Callable[[str], str], call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "pytorch_lightning"]:
        monkeypatch.delitem(sys.modules, name)  # the script is the first to import it
    name = script(OLD.format(package="pytorch_lightning") + call)
    says = refusal(name)
    assert f"cli: this LightningCLI is pytorch_lightning's, another package than lightning ({name}:18);" in says
    assert "`from lightning.pytorch.cli import LightningCLI`" in says
    assert "`import lightning.pytorch as pl` instead of `import pytorch_lightning as pl`" in says


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ("LightningCLI(Old)", "Old is built on pytorch_lightning.LightningModule"),
        ("LightningCLI(make)", "Old is built on pytorch_lightning.LightningModule"),
        ("LightningCLI(SelfFed, OldData)", "OldData is built on pytorch_lightning.LightningDataModule"),
        ("LightningCLI(SelfFed, run=False).trainer.fit(Old())", "Old is built on pytorch_lightning.LightningModule"),
        ("LightningCLI(SelfFed, trainer_class=pl.Trainer)", "is a class of pytorch_lightning"),
        ("Adds(SelfFed)", "is a class of pytorch_lightning"),
    ],
)
def test_a_class_of_pytorch_lightning_in_a_lightning_cli_is_named(
    script: Callable[[str], str], call: str, says: str
) -> None:
    text = refusal(script(OLD.format(package="lightning.pytorch") + call))
    assert says in text
    assert "lightning.pytorch" in text and "MisconfigurationException" not in text
