"""Form 1: class_path and init_args, built by Lightning's own LightningCLI."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.strategies import DDPStrategy

from tests.unit.cli_projects.pieces import Choosy, Data, Net, Probe
from tests.unit.lightning_cli_config import PROJECTS, QUIET, form1, run_config
from trainer_app.errors import ConfigError
from trainer_app.lightning_cli import Parts, build_parts, check_code, resolve_init_args

pytestmark = pytest.mark.unit
CALLBACKS = "lightning.pytorch.callbacks"


def fitted(parts: Parts) -> Parts:
    parts.trainer.fit(parts.model, datamodule=parts.datamodule)
    return parts


def test_builds_model_data_and_trainer() -> None:
    parts = fitted(build_parts(run_config(form1())))
    assert type(parts.model) is Net
    assert (parts.model.hparams["width"], parts.model.hparams["lr"]) == (8, 0.01)
    assert isinstance(parts.datamodule, Data)
    assert parts.trainer.global_step == 4
    assert isinstance(parts.cli, LightningCLI)


def test_a_model_may_bring_its_own_data() -> None:
    model = {"class_path": f"{PROJECTS}.pieces.SelfFed", "init_args": {"batch_size": 2}}
    parts = fitted(build_parts(run_config(form1(model=model, data=None))))
    assert parts.datamodule is None
    assert parts.trainer.global_step == 8


def test_optimizer_and_lr_scheduler_blocks_replace_the_models_own() -> None:
    blocks = form1(
        optimizer={"class_path": "torch.optim.Adam", "init_args": {"lr": 0.5}},
        lr_scheduler={"class_path": "torch.optim.lr_scheduler.StepLR", "init_args": {"step_size": 1, "gamma": 0.1}},
    )
    parts = fitted(build_parts(run_config(blocks)))
    (optimizer,) = parts.trainer.optimizers
    assert isinstance(optimizer, torch.optim.Adam)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.05)


def test_callbacks_and_loggers_by_class_path(tmp_path: Path) -> None:
    trainer = {
        **QUIET,
        "logger": {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": str(tmp_path)}},
        "callbacks": [{"class_path": f"{CALLBACKS}.EarlyStopping", "init_args": {"monitor": "loss", "patience": 4}}],
    }
    extra = Probe()
    parts = build_parts(run_config(form1(trainer=trainer)), callbacks=[extra])
    assert isinstance(parts.trainer.logger, CSVLogger)
    (early,) = [c for c in parts.trainer.callbacks if isinstance(c, EarlyStopping)]
    assert early.patience == 4
    assert extra in parts.trainer.callbacks
    assert not any("SaveConfig" in type(c).__name__ for c in parts.trainer.callbacks)


def test_trainer_kwargs_override_the_trainer_block(tmp_path: Path) -> None:
    logger, strategy, probe = CSVLogger(tmp_path), DDPStrategy(), Probe()
    written = tmp_path / "not-instantiated"
    trainer = {
        **QUIET,
        "max_epochs": 9,
        "strategy": "auto",
        "logger": {"class_path": f"{__name__}.Loud", "init_args": {"touch": str(written)}},
    }
    kwargs: dict[str, Any] = {
        "max_epochs": 2, "logger": logger, "strategy": strategy, "default_root_dir": str(tmp_path), "devices": 1,
        "callbacks": [probe], "enable_checkpointing": True,
    }  # fmt: skip
    config = run_config(form1(trainer=trainer))
    before = config.lightning
    parts = build_parts(config, trainer_kwargs=kwargs)
    assert parts.trainer.max_epochs == 2
    assert parts.trainer.logger is logger
    assert parts.trainer.strategy is strategy
    assert parts.trainer.default_root_dir == str(tmp_path)
    assert probe in parts.trainer.callbacks
    assert any(isinstance(c, ModelCheckpoint) for c in parts.trainer.callbacks)
    assert not written.exists(), "the run file's logger was instantiated although it is replaced"
    assert config.lightning == before
    assert kwargs["callbacks"] == [probe]


class Loud(CSVLogger):
    """A logger that can be seen to have been made."""

    def __init__(self, touch: str) -> None:
        Path(touch).touch()
        super().__init__(Path(touch).parent)


def test_the_seed_is_lightnings_with_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PL_SEED_WORKERS", raising=False)
    first = build_parts(run_config(form1(seed_everything=11))).model.body[0].weight
    assert os.environ["PL_GLOBAL_SEED"] == "11"
    assert os.environ["PL_SEED_WORKERS"] == "1"
    again = build_parts(run_config(form1(seed_everything=11))).model.body[0].weight
    other = build_parts(run_config(form1(seed_everything=12))).model.body[0].weight
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_repeated_builds_share_nothing() -> None:
    trainer = {"max_epochs": 1, **QUIET, "callbacks": [{"class_path": f"{PROJECTS}.pieces.Probe"}]}
    config = run_config(form1(trainer=trainer))
    one = fitted(build_parts(config))
    two = build_parts(config)
    assert [type(c) for c in one.trainer.callbacks] == [type(c) for c in two.trainer.callbacks]
    assert not {id(c) for c in one.trainer.callbacks} & {id(c) for c in two.trainer.callbacks}
    (probe,) = [c for c in two.trainer.callbacks if isinstance(c, Probe)]
    assert probe.epochs == 0
    assert one.model is not two.model
    assert one.datamodule is not two.datamodule
    model = {"class_path": f"{PROJECTS}.pieces.Net", "init_args": {"batch_size": 4, "width": 2}}
    assert build_parts(run_config(form1(model=model))).model.hparams["width"] == 2
    assert one.model.hparams["width"] == 8


def test_plain_lightning_loads_the_checkpoint_in_another_process(tmp_path: Path) -> None:
    path = tmp_path / "c.ckpt"
    fitted(build_parts(run_config(form1()))).trainer.save_checkpoint(path)
    stored = torch.load(path, weights_only=True)
    assert stored["hyper_parameters"]["width"] == 8
    code = (
        "import sys; from tests.unit.cli_projects.pieces import Net, Data; p = sys.argv[1]\n"
        "print(Net.load_from_checkpoint(p).hparams.width,"
        " Net.load_from_checkpoint(p, weights_only=True).body[0].out_features,"
        " Net.load_from_checkpoint(p, lr=7.0).hparams.lr, Data.load_from_checkpoint(p).hparams.batch_size,"
        " 'trainer_app' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["8", "8", "7.0", "4", "False"]


def test_check_instantiates_nothing_and_leaves_stdout_and_the_seed_alone(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    written = tmp_path / "instantiated"
    trainer = {**QUIET, "logger": {"class_path": f"{__name__}.Loud", "init_args": {"touch": str(written)}}}
    state = torch.random.get_rng_state()
    check_code(run_config(form1(model={"class_path": f"{__name__}.Broken"}, trainer=trainer)))
    assert not written.exists()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert capsys.readouterr() == ("", "")


def test_lightning_cli_is_as_it_was_after_a_build_and_after_a_failure() -> None:
    before = dict(vars(LightningCLI))
    parts = build_parts(run_config(form1()))
    with pytest.raises(ConfigError):
        build_parts(run_config(form1(model=None)))
    assert dict(vars(LightningCLI)) == before
    assert not {"parse_arguments", "_instantiate_trainer"} & set(vars(parts.cli))
    assert "fit" not in vars(parts.trainer)


def test_user_errors_of_a_constructor_come_through() -> None:
    model = {"class_path": f"{__name__}.Broken"}
    with pytest.raises(ZeroDivisionError, match="division by zero"):
        build_parts(run_config(form1(model=model, data=None)))
    strategy = {"class_path": f"{__name__}.BrokenStrategy"}
    with pytest.raises(ValueError, match="no such device"):
        build_parts(run_config(form1(trainer={**QUIET, "strategy": strategy})))


class Broken(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.ratio = 1 / 0


class BrokenStrategy(DDPStrategy):
    def __init__(self) -> None:
        raise RuntimeError("no such device")


def test_resolve_asks_the_class_once_and_changes_nothing_else() -> None:
    plain = run_config(form1())
    assert resolve_init_args(plain) == plain
    model = {"class_path": f"{PROJECTS}.pieces.Choosy", "init_args": {"batch_size": 4, "width": 0}}
    config = run_config(form1(model=model))
    settled = resolve_init_args(config)
    assert settled.model == {"class_path": model["class_path"], "init_args": {"batch_size": 4, "width": 3}}
    assert config.model == model
    assert settled.data == config.data
    assert isinstance(build_parts(settled).model, Choosy)


def test_resolve_names_the_key_when_the_class_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Choosy, "resolve_init_args", classmethod(lambda cls, init_args: {}[init_args["width"]]))
    model = {"class_path": f"{PROJECTS}.pieces.Choosy", "init_args": {"batch_size": 4, "width": 0}}
    with pytest.raises(ConfigError, match="model: resolve_init_args raised KeyError") as raised:
        resolve_init_args(run_config(form1(model=model)))
    assert [p.key for p in raised.value.problems] == ["model"]
