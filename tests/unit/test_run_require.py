"""An extra that a run file needs and this install lacks: one line with the command, before anything starts."""

from __future__ import annotations

import importlib.util
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from tests.unit.tree import ROOT
from trainer_app.cli.app import trainer
from trainer_app.config import loads
from trainer_app.errors import ConfigError, InputError
from trainer_app.run import require

pytestmark = pytest.mark.unit
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
WANDB = "model: {class_path: a.Net}\ntrainer: {logger: {class_path: WandbLogger, init_args: {project: p}}}\n"


@pytest.fixture
def nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No extra is installed here."""
    named = {name for modules in require.EXTRAS.values() for name in modules}
    real = importlib.util.find_spec
    monkeypatch.setattr(require, "find_spec", lambda name, *more: None if name in named else real(name, *more))


def problems(trainer_block: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        require.require_parts(loads(f"model: {{class_path: a.Net}}\ntrainer: {trainer_block}\n"))
    assert error.value.exit_code == 2
    return str(error.value).splitlines()


def test_every_extra_is_pyprojects() -> None:
    assert set(require.EXTRAS) == set(EXTRAS) - {"train", "dev"}
    for extra, modules in require.EXTRAS.items():
        names = {Requirement(text).name.removesuffix("-skinny") for text in EXTRAS[extra]}
        assert set(modules) <= names


@pytest.mark.usefixtures("nothing")
@pytest.mark.parametrize(
    "block, key, extra",
    [
        ("{logger: {class_path: lightning.pytorch.loggers.WandbLogger}}", "trainer.logger", "wandb"),
        ("{logger: WandbLogger}", "trainer.logger", "wandb"),
        ("{logger: [{class_path: CSVLogger}, {class_path: MLFlowLogger}]}", "trainer.logger.1", "mlflow"),
        ("{logger: {class_path: pytorch_lightning.loggers.MLFlowLogger}}", "trainer.logger", "mlflow"),
        ("{strategy: deepspeed_stage_2}", "trainer.strategy", "deepspeed"),
    ],
)
def test_a_part_names_its_key_and_the_command(block: str, key: str, extra: str) -> None:
    (line,) = problems(block)
    assert line.startswith(f"run.yaml:2: {key}: ") and f"needs {extra}, not installed here" in line
    assert f"uv pip install -r pyproject.toml --extra train --extra {extra} -c image/requirements.txt" in line
    assert line.endswith(f"make image EXTRAS={extra}")


@pytest.mark.usefixtures("nothing")
@pytest.mark.parametrize(
    "block", ["{}", "{logger: true}", "{logger: {class_path: my.WandbLogger}}", "{logger: TensorBoardLogger}"]
)
def test_what_needs_no_extra_passes(block: str) -> None:
    require.require_parts(loads(f"model: {{class_path: a.Net}}\ntrainer: {block}\n"))


def test_what_is_installed_passes() -> None:
    for extra in ("ui", "tensorboard", "mlflow", "wandb", "onnx"):
        require.require_extra(extra, what="it")


@pytest.mark.usefixtures("nothing")
@pytest.mark.parametrize("extra", ["deepspeed", "huggingface"])
def test_an_extra_with_a_lock_of_its_own_names_it(extra: str) -> None:
    with pytest.raises(InputError, match=rf" --extra {extra} -c image/requirements.txt -c image/{extra}.txt"):
        require.require_extra(extra, what="it")
    assert (ROOT / f"image/{extra}.txt").exists()


@pytest.mark.usefixtures("nothing")
def test_a_verb_names_its_extra() -> None:
    with pytest.raises(InputError, match=r"^trainer tensorboard needs tensorboard, .* --extra tensorboard "):
        require.require_extra("tensorboard", what="trainer tensorboard")


@pytest.mark.usefixtures("nothing")
@pytest.mark.parametrize("command", [["validate"], ["validate", "--deep"], ["train"], ["validate", "--run"]])
def test_no_command_begins_without_it(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (tmp_path / "run.yaml").write_text(WANDB)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"run.yaml:2: trainer.logger: WandbLogger needs wandb"):
        trainer()(args=[*command, "run.yaml"], standalone_mode=False)
    assert list(tmp_path.iterdir()) == [tmp_path / "run.yaml"]
