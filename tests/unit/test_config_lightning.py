"""LightningCLI's own YAML: what it saves, its subcommands' blocks; our names against the installed ones."""

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trainer_app.config import dump, load, loads
from trainer_app.config.lightning.keys import RAY_STRATEGIES, REFUSED_STRATEGIES, STRATEGIES, TRAINER_KEYS
from trainer_app.errors import ConfigError

pytestmark = pytest.mark.unit

CODE = """\
import torch
import lightning.pytorch as pl
from lightning.pytorch.cli import LightningCLI

class Net(pl.LightningModule):
    def __init__(self, width: int = 4, lr: float = 1e-3):
        super().__init__()
        self.layer = torch.nn.Linear(width, 1)

class Data(pl.LightningDataModule):
    def __init__(self, batch_size: int = 2):
        super().__init__()

class CLI(LightningCLI):
    def add_arguments_to_parser(self, parser):
        parser.add_argument("--extra.width", type=int, default=3)
        parser.add_argument("--note", default="hi")
"""
TRAINER = ["--trainer.accelerator=cpu", "--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.max_epochs=3"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("project")
    (folder / "foreign_project.py").write_text(CODE)
    sys.path.insert(0, str(folder))
    import foreign_project  # type: ignore[import-not-found]

    yield foreign_project
    sys.path.remove(str(folder))
    del sys.modules["foreign_project"]


def saved(cli: Any, folder: Path) -> Path:
    """What LightningCLI's SaveConfigCallback writes: the parser's own `save` of the parsed config."""
    file = folder / "config.yaml"
    parser, config = cli.parser, cli.config
    if cli.subcommand:
        parser, config = cli._parser(cli.subcommand), config[cli.subcommand]
    parser.save(config, str(file), skip_none=False, overwrite=True, multifile=False)
    assert file.read_text().startswith("# lightning.pytorch==")
    return file


def parse(cli_class: Any, arguments: list[str], *classes: Any) -> Any:
    """The CLI with its arguments parsed and nothing instantiated or run."""

    class Parsed(cli_class):
        def instantiate_classes(self) -> None:
            self.trainer = None

        def _run_subcommand(self, subcommand: str) -> None:
            self.ran = subcommand

    return Parsed(*classes, args=arguments, seed_everything_default=1)


def test_saved_with_classes_by_path(project: Any, tmp_path: Path) -> None:
    words = ["--model=foreign_project.Net", "--data=foreign_project.Data", "--optimizer=Adam"]
    words += ["--lr_scheduler=StepLR", "--lr_scheduler.step_size=1"]
    from lightning.pytorch.cli import LightningCLI

    file = saved(parse(LightningCLI, ["fit", *words, *TRAINER]), tmp_path)
    config = load([file])
    assert config.lightning["model"] == {"class_path": "foreign_project.Net", "init_args": {"width": 4, "lr": 0.001}}
    assert config.lightning["optimizer"]["class_path"] == "torch.optim.Adam"
    assert config.lightning["lr_scheduler"]["init_args"]["step_size"] == 1
    assert (config.seed_everything, config.ckpt_path, config.max_epochs) == (1, None, 3)
    assert (config.scaling.num_workers, config.scaling.use_gpu) == (2, False)
    assert config.trainer["strategy"]["class_path"] == "ray.train.lightning.RayDDPStrategy"
    assert config.trainer["precision"] is None  # nulls are Lightning's defaults, and stay
    assert loads(dump(config)) == config
    assert [note.split(": ")[1] for note in config.notes] == [
        "trainer.devices",
        "trainer.accelerator",
        "trainer.strategy",
    ]
    assert len(load([file], ["trainer.max_steps=5"]).trainer) == len(config.trainer)


def test_saved_by_a_cli_of_ones_own(project: Any, tmp_path: Path) -> None:
    cli = parse(project.CLI, ["fit", "--extra.width=5", "--optimizer=Adam", *TRAINER], project.Net, project.Data)
    file = saved(cli, tmp_path)
    config = load([file], ["cli=foreign_project:CLI"])
    assert config.arguments == {"extra": {"width": 5}, "note": "hi"}
    assert config.model == {"width": 4, "lr": 0.001}
    assert loads(dump(config)) == config
    with pytest.raises(ConfigError) as refused:
        load([file])
    assert {p.key for p in refused.value.problems} == {"extra", "note", "model.class_path", "data.class_path"}


def test_what_the_block_fit_says_is_what_the_file_says(project: Any, tmp_path: Path) -> None:
    from lightning.pytorch.cli import LightningCLI

    cli = parse(LightningCLI, ["fit", "--model=foreign_project.Net", *TRAINER])
    plain = load([saved(cli, tmp_path)])
    whole = tmp_path / "whole.yaml"
    whole.write_text(cli.parser.dump(cli.config, skip_none=False))
    assert "fit:" in whole.read_text()
    assert load([whole]) == plain
    assert all(str(whole) in note for note in load([whole]).notes)


def test_fit_beside_our_blocks() -> None:
    text = """\
fit:
  model: {class_path: a.Net}
  trainer:
    max_epochs: 2
    max_epoch: 3
scaling: {num_workers: 2}
validate: {trainer: {max_epochs: 1}, ckpt_path: null, verbose: true}
test:
predict: {return_predictions: null}
tune: {metric: m, mode: min, space: {model.init_args.lr: {uniform: [0, 1]}}}
"""
    with pytest.raises(ConfigError) as refused:
        loads(text)
    assert [(p.line, p.key) for p in refused.value.problems] == [(5, "trainer.max_epoch")]
    config = loads(text.replace("    max_epoch: 3\n", ""))
    assert (config.trainer, config.scaling.num_workers) == ({"max_epochs": 2}, 2)
    assert config.tune is not None
    assert [note.split(": ")[1] for note in config.notes] == ["validate", "test", "predict"]


def test_switches_that_say_nothing() -> None:
    text = "model: {class_path: a.Net}\nconfig: null\nprint_config: false\nverbose: true\nckpt_path: null\n"
    assert loads(text + "weights_only: null\nsubcommand: fit\n").notes == ()
    assert (loads(text + "weights_only: true\n").weights_only, loads(text).weights_only) == (True, None)
    assert loads("cli: a:B\nverbose: true\n").arguments == {"verbose": True}


def test_tune_as_lightning_1_had_it() -> None:
    config = loads("fit: {model: {class_path: a.Net}}\ntune: {trainer: {max_epochs: 1}, model: {class_path: a.Net}}\n")
    assert config.tune is None
    assert "old subcommand of LightningCLI" in config.notes[0]


def test_trainer_keys_are_lightnings() -> None:
    import lightning

    parameters = list(inspect.signature(lightning.Trainer.__init__).parameters)[1:]
    assert list(TRAINER_KEYS) == parameters


def test_strategies_are_lightnings() -> None:
    from lightning.pytorch import strategies
    from lightning.pytorch.strategies import StrategyRegistry

    registered = {}
    for name, entry in StrategyRegistry.items():
        args = {k: v for k, v in entry["init_params"].items() if k not in ("start_method", "debug")}
        registered[name] = (entry["strategy"].__name__, args)
    registered["fsdp2"] = STRATEGIES["fsdp2"]  # ours
    assert {name: found for name, found in STRATEGIES.items() if name != "auto"} == registered
    assert {*strategies.__all__} - {*RAY_STRATEGIES} - {*REFUSED_STRATEGIES} == {"SingleDeviceStrategy"}


def test_parameters_are_rays() -> None:
    """Each name of ours exists in the class or function of Ray Tune, Ray Train and Optuna that takes it."""
    from optuna.samplers import NSGAIISampler, TPESampler
    from ray import tune
    from ray.train import FailureConfig, ScalingConfig
    from ray.train.torch import TorchConfig
    from ray.tune import schedulers

    from trainer_app.config import models, space, tuning

    def names(function: Any) -> set[str]:
        return set(inspect.signature(function).parameters)

    pairs: dict[Any, Any] = {
        tuning.Asha: schedulers.AsyncHyperBandScheduler,
        tuning.Hyperband: schedulers.HyperBandScheduler,
        tuning.Median: schedulers.MedianStoppingRule,
        tuning.Pbt: schedulers.PopulationBasedTraining,
        tuning.Optuna: TPESampler,
        models.Failure: FailureConfig,
    }
    assert "population_size" in names(NSGAIISampler)
    not_theirs = {"mutations", "method", "storage_timeout_s", "sampler", "metrics", "population_size"}
    for ours, theirs in pairs.items():
        assert set(ours.model_fields) - names(theirs) - not_theirs == set(), ours
    assert set(models.Scaling.model_fields) - names(ScalingConfig) == {"timeout_s", "process_group_backend"}
    assert {"timeout_s", "backend"} <= names(TorchConfig)
    for kind in space.Primitive.model_fields:
        args = space.Primitive.model_validate({kind: EXAMPLES.get(kind, [1, 2])}).args
        assert list(args) == [name for name in inspect.signature(getattr(tune, kind)).parameters if name != "base"], (
            kind
        )


EXAMPLES: dict[str, Any] = {
    "sample_from": "a:b",
    **{kind: [1, 2, 1] for kind in ("quniform", "qloguniform", "qrandint", "qlograndint", "qrandn")},
}
