"""What a resumed fit does not repeat, never loses, and in which order it sees its samples: Lightning on CPU, no Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback, LearningRateFinder
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, Sampler

from tests.unit.test_epoch_reporter import Case, Fitted, Plain, Samples, fit
from trainer_app.callbacks.epoch import STATE_KEY, EpochReporter
from trainer_app.checkpoint import list_commits
from trainer_app.errors import TrainerError

pytestmark = [pytest.mark.unit, pytest.mark.filterwarnings("ignore")]

HERE = "tests.unit.test_epoch_resume"
FINDERS = "lightning.pytorch.callbacks"


class Rated(Plain):
    """With a rate and a batch size that a search sets."""

    def __init__(self, cycle: int = 0) -> None:
        super().__init__()
        self.lr, self.batch_size, self.cycle = 0.123, 4, cycle

    def train_dataloader(self) -> Any:
        return DataLoader(Samples(1), batch_size=self.batch_size, shuffle=True)

    def on_train_epoch_end(self) -> None:
        super().on_train_epoch_end()
        self.log("own_lr", float(self.lr))
        self.log("own_size", float(self.batch_size))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=self.lr)
        if not self.cycle:
            return optimizer
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=self.cycle)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}


def with_callback(class_path: str, model: str = "Rated", *, epochs: int = 4, **init: Any) -> Case:
    callbacks = [{"class_path": class_path, "init_args": init}]
    return Case(model=f"{HERE}.{model}", trainer={"max_epochs": epochs, "callbacks": callbacks}, keep=None)


SEARCHES = {
    "rate": with_callback(f"{FINDERS}.LearningRateFinder", epochs=6, num_training_steps=20, early_stop_threshold=None),
    "size": with_callback(f"{FINDERS}.BatchSizeFinder", epochs=6, init_val=3, max_trials=1),
}


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_is_not_repeated_and_what_it_found_stays(name: str, tmp_path: Path) -> None:
    whole = fit(SEARCHES[name], tmp_path / "calm")
    first = fit(SEARCHES[name], tmp_path / "unit", stop_after=2)
    second = fit(SEARCHES[name], tmp_path / "unit")
    assert [r["epochs"] for r in first.reports + second.reports] == [1, 2, 3, 4, 5, 6]
    assert second.metrics == whole.metrics
    assert [c.manifest.epochs for c in list_commits(second.fit_folder.checkpoints)] == [1, 2, 3, 4, 5, 6]
    own = {metrics["own_lr" if name == "rate" else "own_size"] for _, _, metrics in second.metrics}
    assert len(own) == 1 and own.pop() != pytest.approx(0.123 if name == "rate" else 4)


class FindsAgain(LearningRateFinder):
    """Lightning's own example: a search at some epochs, too."""

    def __init__(self) -> None:
        super().__init__(num_training_steps=20, early_stop_threshold=None)

    def on_fit_start(self, *args: Any) -> None:
        return

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.current_epoch in (1, 3):
            self.lr_find(trainer, pl_module)


def test_a_search_at_a_later_epoch_loses_no_epoch(tmp_path: Path) -> None:
    case = with_callback(f"{HERE}.FindsAgain")
    whole = fit(case, tmp_path / "calm")
    assert [epoch for epoch, _, _ in whole.metrics] == [0, 1, 2, 3]
    fit(case, tmp_path / "unit", stop_after=2)
    second = fit(case, tmp_path / "unit")
    assert [r["epochs"] for r in second.reports] == [3, 4]
    assert [step for _, step, _ in second.metrics] == [step for _, step, _ in whole.metrics] == [3, 6, 9, 12]


class GoesBack(Callback):
    """Loads a checkpoint of the first epoch whenever a fit starts."""

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        trainer.strategy.barrier()
        path = str(Path(trainer.default_root_dir, "x.ckpt"))
        trainer.save_checkpoint(path)
        trainer._checkpoint_connector.restore(path)


def test_a_fit_that_falls_behind_its_commit_ends_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the callback writes there
    case = with_callback(f"{HERE}.GoesBack")
    first = fit(case, tmp_path / "unit", stop_after=2)
    before = {e.key for e in first.fit_folder.store.list()}
    with pytest.raises(TrainerError, match=r"went back from epoch 2, step 6, to epoch 0, step 0: a callback"):
        fit(case, tmp_path / "unit")
    assert {e.key for e in first.fit_folder.store.list()} == before | {
        "attempts/a0002.json"
    }  # the second start's number


# --- the order of the samples


class OwnGenerator(Plain):
    def train_dataloader(self) -> Any:
        return DataLoader(Samples(1), batch_size=4, shuffle=True, generator=torch.Generator().manual_seed(3))


class OwnSampler(Plain):
    def train_dataloader(self) -> Any:
        data, generator = Samples(1), torch.Generator().manual_seed(3)
        return [DataLoader(data, batch_size=4, sampler=RandomSampler(data, generator=generator))]

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        return super().training_step(batch[0], index)


class Stubborn(Sampler[int]):
    """Shuffles by a state of its own."""

    def __init__(self) -> None:
        self.times = 0

    def __len__(self) -> int:
        return 10

    def __iter__(self) -> Any:
        self.times += 1
        return iter([(i * 3 + self.times) % 10 for i in range(10)])


class WithStubborn(Plain):
    def train_dataloader(self) -> Any:
        return DataLoader(Samples(1), batch_size=4, sampler=Stubborn())


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        samples = Samples(1)
        return (samples[index] for index in range(len(samples)))


class Streamed(Plain):
    """Its loader's samplers have no length: their truth value is an error."""

    def train_dataloader(self) -> Any:
        return DataLoader(Stream(), batch_size=4)


def shuffled(model: str = "Plain") -> Case:
    return Case(model=f"{HERE}.{model}", trainer={"max_epochs": 5}, keep=None)


@pytest.mark.parametrize("model", ["OwnGenerator", "OwnSampler", "Streamed"])
def test_a_fit_goes_on_with_its_loaders(model: str, tmp_path: Path) -> None:
    whole = fit(shuffled(model), tmp_path / "calm")
    first = fit(shuffled(model), tmp_path / "unit", stop_after=2)
    second = fit(shuffled(model), tmp_path / "unit")
    assert {**first.samples, **second.samples} == whole.samples
    assert second.metrics == whole.metrics


def resumed_after_two_workers(
    case: Case, folder: Path, epochs: int, monkeypatch: pytest.MonkeyPatch, stop_after: int | None = None
) -> Fitted:
    """Fit `epochs` with one worker, whose commits say that they were two, and then the rest."""
    save = EpochReporter.on_save_checkpoint

    def on_save(self: EpochReporter, trainer: L.Trainer, module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        save(self, trainer, module, checkpoint)
        checkpoint[STATE_KEY]["world_size"] = 2

    with monkeypatch.context() as patched:
        patched.setattr(EpochReporter, "on_save_checkpoint", on_save)
        fit(case, folder, stop_after=epochs)
    return fit(case, folder, stop_after=stop_after)


@pytest.mark.parametrize("model", ["Plain", "OwnGenerator", "OwnSampler"])
def test_after_another_number_of_workers_an_epochs_order_is_that_of_seed_and_epoch(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Wherever it was resumed, and as often: no epoch repeats another's order."""
    one = resumed_after_two_workers(shuffled(model), tmp_path / "one", 1, monkeypatch)
    two = resumed_after_two_workers(shuffled(model), tmp_path / "two", 2, monkeypatch)
    said = [line for line in capfd.readouterr().err.splitlines() if "order" in line]
    assert said[-1] == (
        "resumed with 1 workers after 2: the order of the samples of epoch 2 and later ones is drawn from seed and "
        "epoch, not an undisturbed run's"
    )
    assert sorted(one.samples) == [1, 2, 3, 4] and sorted(two.samples) == [2, 3, 4]
    assert {epoch: one.samples[epoch] for epoch in two.samples} == two.samples
    undisturbed = fit(shuffled(model), tmp_path / "calm")
    orders = [undisturbed.samples[0], *one.samples.values()]
    assert len({str(order) for order in orders}) == len(orders)


def test_it_stays_so_when_it_is_resumed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = resumed_after_two_workers(shuffled(), tmp_path / "one", 1, monkeypatch)
    again = resumed_after_two_workers(shuffled(), tmp_path / "two", 1, monkeypatch, stop_after=3)
    rest = fit(shuffled(), tmp_path / "two")
    assert {**again.samples, **rest.samples} == whole.samples
    assert rest.metrics[1:] == whole.metrics[1:]


def test_a_sampler_with_a_state_of_its_own_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    fit(shuffled("WithStubborn"), tmp_path / "unit", stop_after=2)
    assert "set_epoch" not in capfd.readouterr().err
    fit(shuffled("WithStubborn"), tmp_path / "unit")
    said = [line for line in capfd.readouterr().err.splitlines() if "set_epoch" in line]
    name, start = f"{HERE}.Stubborn", "epoch 2 and later ones"
    assert said == [f"if {name} keeps a random state of its own, it begins anew with {start}: give it set_epoch(epoch)"]


# --- a schedule that was made for a number of steps


def test_a_commit_says_how_far_a_schedule_goes(tmp_path: Path) -> None:
    case = Case(model=f"{HERE}.Rated", init={"cycle": 12}, trainer={"max_epochs": 2})
    commits = list_commits(fit(case, tmp_path / "unit").fit_folder.checkpoints)
    assert [[s.model_dump() for s in c.manifest.schedules] for c in commits] == [
        [{"name": "OneCycleLR", "done": done, "total": 12}] for done in (3, 6)
    ]
