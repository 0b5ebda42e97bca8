"""The block `find`: Lightning's Tuner before a run, in this process; what it finds is the run's from then on."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.tuner import Tuner
from torch.utils.data import DataLoader, TensorDataset

from trainer_app.config import RunConfig, dump, loads, override, searched_keys
from trainer_app.config.find import FindBatchSize, FindLr
from trainer_app.errors import ConfigError, TrainerError
from trainer_app.run import prepare
from trainer_app.run.spec import RunSpec
from trainer_app.storage import open_store
from trainer_app.training import find
from trainer_app.tuning.process_state import restored_process

pytestmark = [pytest.mark.unit, pytest.mark.filterwarnings("ignore")]

HERE = "tests.unit.test_train_find"
BASE = f"""
seed_everything: 5
model: {{class_path: {HERE}.Net, init_args: {{lr: 0.5}}}}
data: {{class_path: {HERE}.Points, init_args: {{batch_size: 4}}}}
trainer:
  max_epochs: 2
  precision: 64-true
  callbacks: [{{class_path: LearningRateMonitor}}, {{class_path: ModelCheckpoint}}]
"""
BOTH = "find: {batch_size: {max_trials: 3, steps_per_trial: 1}, lr: {num_training: 30, min_lr: 1.0e-5}}\n"


class Net(L.LightningModule):
    def __init__(self, lr: float = 0.1) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(4, 2)

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(self.layer(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=self.hparams["lr"])


class Points(L.LightningDataModule):
    def __init__(self, batch_size: int = 4) -> None:
        super().__init__()
        self.save_hyperparameters()

    def train_dataloader(self) -> Any:
        x = torch.randn(64, 4, generator=torch.Generator().manual_seed(1))
        return DataLoader(TensorDataset(x, (x.sum(1) > 0).long()), batch_size=self.hparams["batch_size"], shuffle=True)


def search(config: RunConfig, tmp_path: Path) -> dict[str, Any]:
    with restored_process():
        return find.search(config, RunSpec("r", str(tmp_path), "", use_gpu=False), tmp_path)


def test_both_are_found(tmp_path: Path) -> None:
    """Twice the same; the state that the Tuner comes back to is removed."""
    config = loads(BASE + BOTH)
    values = search(config, tmp_path)
    assert values == search(config, tmp_path)
    assert values["data.init_args.batch_size"] == 8  # the third of 2, 4, 8
    assert 1e-5 < values["model.init_args.lr"] < 1
    assert list(tmp_path.rglob("*.ckpt")) == []


def test_one_is_found_by_another_key(tmp_path: Path) -> None:
    config = loads(BASE + "find: {lr: {key: optimizer.init_args.lr, num_training: 30}}\n")
    config = override(config, {"optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1}}})
    assert list(search(config, tmp_path)) == ["optimizer.init_args.lr"]
    assert search(override(config, {"trainer.fast_dev_run": True}), tmp_path) == {}


def test_no_suggestion_is_an_error(tmp_path: Path) -> None:
    config = loads(BASE + "find: {lr: {num_training: 3}}\n")
    with pytest.raises(TrainerError, match=r"find\.lr: the losses of [234] rates suggest none; change min_lr"):
        search(config, tmp_path)


def test_a_run_searches_once_and_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    searches: list[Any] = []
    events: list[Any] = []
    found = {"data.init_args.batch_size": 32, "model.init_args.lr": 0.25}

    def search_in_task(*args: Any) -> dict[str, Any]:
        searches.append(args)
        return found

    monkeypatch.setattr(find, "_search_in_task", search_in_task)
    monkeypatch.setenv("TRAINER_CLUSTER_RESOURCES", '{"CPU": 2}')
    store = open_store(str(tmp_path / "runs"))
    config, chosen = prepare.resolve_choices(loads(BASE + BOTH))
    folder = prepare.create_run(store, config, chosen, name="r", task="train")
    config, spec = find.find_values(config, folder, prepare.run_spec(folder, store, config), events.append)
    assert events == [{"event": "found", **found}] and folder.record.resolved.items() >= found.items()
    assert loads(spec.config) == config == loads(folder.read_config())
    folder.write_config(dump(loads(BASE + BOTH)))  # the driver ended between the two writes
    again, config = prepare.reopen_run(store, loads(BASE + BOTH), name="r", task="train")
    assert prepare.flatten(config).items() >= found.items()
    find.find_values(config, again, spec, events.append)
    assert len(searches) == len(events) == 1


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{lr: {key: trainer.lr}}", r"find\.lr\.key: must be a key of .*model\.init_args\.lr"),
        ("{lr: {num_trainings: 3}}", r"find\.lr\.num_trainings: .*did you mean num_training"),
        ("{lr: 3}", r"find\.lr"),
        ("{batch_size: {mode: fast}}", r"find\.batch_size\.mode: .*power"),
        ("{batch_size: {key: model.init_args.lr}, lr: true}", "batch_size and lr have the same key"),
    ],
)
def test_what_is_wrong_is_named(text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        loads(f"{BASE}find: {text}\n")


def test_a_key_that_the_code_has_not_is_refused_before_the_search() -> None:
    find.check_keys(loads(BASE + BOTH))
    with pytest.raises(ConfigError, match=r"model\.init_args\.rate"):
        find.check_keys(loads(BASE + "find: {lr: {key: model.init_args.rate}}\n"))


def test_arguments_are_the_tuners() -> None:
    for ours, theirs in ((FindBatchSize, Tuner.scale_batch_size), (FindLr, Tuner.lr_find)):
        arguments = inspect.signature(theirs).parameters
        fields = {name: field.default for name, field in ours.model_fields.items() if name != "key"}
        assert fields == {name: arguments[name].default for name in fields}
    assert searched_keys(None) == ()
    assert searched_keys(loads(BASE + "find: {lr: true}\n").find) == ("model.init_args.lr",)
    assert loads(BASE + "find: {lr: true, batch_size: false}\n") == loads(BASE + "find: {lr: {}}\n")


def test_a_sweep_does_not_use_it() -> None:
    sweep = "tune: {metric: loss, mode: min, space: {model.init_args.lr: {uniform: [0.1, 0.2]}}}\n"
    config = loads(BASE + BOTH + sweep)
    assert any("find: a sweep does not use it" in note for note in config.notes_of("tune"))
    assert not any("find" in note for note in config.notes_of("train"))
