"""docs/migrating.md: what the code before says, the run file after it says, key by key."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.migrating import LIGHTNING, SCRIPT, SECTIONS, TORCH, TUNER, Section
from trainer_app import lightning_cli
from trainer_app.__main__ import main
from trainer_app.config import RunConfig, loads

pytestmark = pytest.mark.unit


def calls(code: str) -> dict[str, dict[str, Any]]:
    """Return {name of what is called: its plain arguments}; the place of one without a name is its name."""
    found: dict[str, dict[str, Any]] = {}
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Call):
            arguments: list[tuple[Any, ast.expr]] = [*enumerate(node.args)]
            arguments += [(word.arg, word.value) for word in node.keywords]
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            found.setdefault(name, {}).update(
                {key: value for key, one in arguments if (value := plain(one)) is not None}
            )
    return found


def plain(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None


def init_args(block: Any) -> dict[str, Any]:
    return dict(block.get("init_args", {}))


def trainer_of(config: RunConfig, names: set[str]) -> dict[str, Any]:
    return {key: value for key, value in config.trainer.items() if key in names}


def check_scaling(found: dict[str, Any], config: RunConfig) -> None:
    assert found["ScalingConfig"] == {"num_workers": config.scaling.num_workers, "use_gpu": config.scaling.use_gpu}
    assert found["RunConfig"] == {"name": config.name, "storage_path": config.storage.uri}


def check_script(found: dict[str, Any], config: RunConfig) -> None:
    assert found["seed_everything"][0] == config.seed_everything
    assert found["Classifier"] == init_args(config.model) and found["Digits"] == init_args(config.data)
    assert found["Trainer"] == trainer_of(config, {"max_epochs", "gradient_clip_val"})
    assert found["CSVLogger"] == init_args(config.trainer["logger"])
    assert found["EarlyStopping"] == init_args(config.trainer["callbacks"][0])


def check_torch(found: dict[str, Any], config: RunConfig) -> None:
    check_scaling(found, config)
    assert found["seed_everything"][0] == config.seed_everything
    assert found["TorchTrainer"]["train_loop_config"] == init_args(config.model)
    assert found["Digits"] == init_args(config.data)
    assert found["Trainer"] == {**config.trainer, "devices": "auto", "accelerator": "auto"}
    assert found["FailureConfig"] == {"max_failures": config.failure.max_failures}
    names = ("num_to_keep", "checkpoint_score_attribute", "checkpoint_score_order")
    kept = config.checkpoint
    assert found["CheckpointConfig"] == dict(zip(names, (kept.keep, kept.monitor, kept.mode), strict=True))


def check_lightning(found: dict[str, Any], config: RunConfig) -> None:
    check_scaling(found, config)
    assert found["module"] == init_args(config.model) and found["Digits"] == init_args(config.data)
    assert found["trainer"] == config.trainer
    kept = config.checkpoint
    assert found["checkpointing"] == {"monitor": kept.monitor, "mode": kept.mode, "save_top_k": kept.keep}


def check_tuner(found: dict[str, Any], config: RunConfig) -> None:
    check_scaling(found, config)
    assert config.tune is not None
    assert found["TuneConfig"] == {key: getattr(config.tune, key) for key in ("metric", "mode", "num_samples")}
    assert found["ASHAScheduler"].items() <= dict(config.tune.scheduler.args).items()
    drawn = {key: list(one.args.values()) for key, one in config.tune.space.items()}
    assert drawn == {
        "model.init_args.hidden": [found["choice"][0]],
        "model.init_args.lr": [found["loguniform"][0], found["loguniform"][1]],
    }
    assert found["ASHAScheduler"]["max_t"] == config.trainer["max_epochs"]


@pytest.mark.parametrize(
    "section, check",
    [(SCRIPT, check_script), (TORCH, check_torch), (LIGHTNING, check_lightning), (TUNER, check_tuner)],
    ids=["script", "torch", "lightning", "tuner"],
)
def test_a_run_file_says_what_the_code_said(
    section: Section, check: Callable[[dict[str, Any], RunConfig], None]
) -> None:
    config = loads(section.after)
    assert config.notes == ()
    check(calls(section.before), config)


@pytest.mark.parametrize("section", SECTIONS, ids=["script", "torch", "lightning", "tuner"])
def test_the_run_files_fit_the_code(section: Section, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init", "."]) == 0
    config = loads(section.after)
    lightning_cli.check_code(config)
    lightning_cli.check_space(config)


def test_a_value_that_differs_is_seen() -> None:
    with pytest.raises(AssertionError):
        check_lightning(calls(LIGHTNING.before.replace("save_top_k=3", "save_top_k=2")), loads(LIGHTNING.after))
