"""A project that writes by relative path, trained and tuned on a real local Ray."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.local.commands import Place
from trainer_app.results import load_run
from trainer_app.storage import open_store

pytestmark = pytest.mark.local

PROJECT = """
import time
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback


class Net(L.LightningModule):
    def __init__(self, lr: float = 0.1) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = torch.nn.Linear(4, 1)
        self.scale = float(Path("inputs/scale.txt").read_text())

    def training_step(self, batch, index):
        return self.net(batch).pow(2).mean() * self.scale

    def validation_step(self, batch, index):
        self.log("loss", self.net(batch).pow(2).mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.hparams.lr)


class Data(L.LightningDataModule):
    def train_dataloader(self):
        return torch.utils.data.DataLoader(torch.randn(8, 4), batch_size=4)

    val_dataloader = train_dataloader


class Note(Callback):
    def on_train_epoch_end(self, trainer, module):
        with open("notes.txt", "a") as file:
            file.write(f"{module.hparams.lr} {trainer.current_epoch}\\n")
        if module.hparams.lr > 1:
            raise ValueError("too fast")

    def on_exception(self, trainer, module, error):
        time.sleep(0.5)
        Path("end.txt").write_text(type(error).__name__)


class Slow(Callback):
    def on_exception(self, trainer, module, error):
        time.sleep(12)  # longer than Ray waits for the last processes of a sweep
        Path("late.txt").write_text("late")
"""
RUN_FILE = """
name: writes
model: {class_path: project.Net}
data: {class_path: project.Data}
trainer:
  max_epochs: 2
  logger: {class_path: lightning.pytorch.loggers.CSVLogger, init_args: {save_dir: logs}}
  callbacks:
  - {class_path: project.Note}
  - {class_path: lightning.pytorch.callbacks.ModelCheckpoint, init_args: {monitor: loss, save_last: true}}
checkpoint: {monitor: loss, mode: min}
scaling: {use_gpu: false}
failure: {max_failures: 0}
tune:
  metric: loss
  mode: min
  num_samples: 1
  space: {model.init_args.lr: {grid_search: [0.1, 0.2, 2.0]}}
  scheduler: {asha: {max_t: 2, grace_period: 1, reduction_factor: 2}}
"""
TWO = "tune.space={model.init_args.lr: {grid_search: [0.1, 0.2]}}"
LOG = "logs/lightning_logs/version_0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("writes")
    (folder / "inputs").mkdir()
    (folder / "inputs/scale.txt").write_text("2")
    (folder / "project.py").write_text(PROJECT)
    (folder / "run.yaml").write_text(RUN_FILE)
    return folder


def test_each_trial_writes_in_a_folder_of_its_own(folder: Path) -> None:
    """Two at once, which ASHA stops; the third fails. What each had written is kept."""
    with Place() as place:
        place.run("tune", "run.yaml", "--name", "sweep", cwd=folder)
        assert not list(place.tmp.glob("trainer-work/*.used"))
    assert sorted(path.name for path in folder.iterdir() if path.name != "__pycache__") == [
        "inputs", "project.py", "run.yaml", "runs"
    ]  # fmt: skip
    run = load_run(str(folder / "runs"), "sweep")
    assert len(run.trials) == 3
    for trial in run.trials:
        lr, own = trial.params["model.init_args.lr"], folder / f"runs/sweep/artifacts/{trial.trial}"
        epochs = 1 if lr == 2.0 else trial.epochs  # ASHA stops one after the first epoch, and the other at max_t
        assert (own / "notes.txt").read_text() == "".join(f"{lr} {epoch}\n" for epoch in range(epochs))
        assert f"lr: {lr}" in (own / LOG / "hparams.yaml").read_text()
        assert (own / "end.txt").read_text() == ("ValueError" if lr == 2.0 else "SystemExit")
        names = sorted(path.name for path in own.rglob("*") if path.is_file())
        if lr != 2.0:
            assert names == ["end.txt", "hparams.yaml", "metrics.csv", "not-sent.txt", "notes.txt"]


@pytest.mark.full
def test_train_leaves_the_files_where_they_are_and_keeps_copies(folder: Path) -> None:
    with Place() as place:
        place.run("train", "run.yaml", "--name", "one", cwd=folder)
    kept = open_store(str(folder / "runs/one/artifacts"))
    assert sorted(entry.key for entry in kept.list()) == [
        f"{LOG}/hparams.yaml", f"{LOG}/metrics.csv", "not-sent.txt", "notes.txt"
    ]  # fmt: skip
    assert kept.get(f"{LOG}/metrics.csv") == (folder / LOG / "metrics.csv").read_bytes()
    assert (folder / LOG / "checkpoints/last.ckpt").exists()
    logged = [float(row["loss"]) for row in csv.DictReader((folder / LOG / "metrics.csv").open()) if row["loss"]]
    history = load_run(str(folder / "runs"), "one").fits[0].history
    assert logged == pytest.approx([line["metrics"]["loss"] for line in history], rel=1e-6)


@pytest.mark.full
def test_the_last_trials_of_a_sweep_send_what_they_write_late(folder: Path) -> None:
    with Place() as place:
        place.run(
            "tune", "run.yaml", TWO, "trainer.callbacks+={class_path: project.Slow}", "--name", "late", cwd=folder
        )
    trials = load_run(str(folder / "runs"), "late").trials
    assert len(trials) == 2
    for trial in trials:
        assert (folder / f"runs/late/artifacts/{trial.trial}/late.txt").read_text() == "late"


@pytest.mark.full
def test_trials_of_several_workers_send_what_they_wrote_last(folder: Path) -> None:
    """The scheduler ends both; what they write at the end of their last epoch, they write after they report it."""
    with Place() as place:
        long = ("scaling.num_workers=2", "trainer.max_epochs=10000")
        place.run("tune", "run.yaml", TWO, *long, "--name", "nested", cwd=folder)
    trials = load_run(str(folder / "runs"), "nested").trials
    assert len(trials) == 2
    for trial in trials:
        lr, own = trial.params["model.init_args.lr"], folder / f"runs/nested/artifacts/{trial.trial}"
        assert f"{lr} {trial.epochs - 1}" in (own / "notes.txt").read_text().splitlines()
        assert list(own.glob("logs/lightning_logs/version_*/metrics.csv"))  # not 0 where a test before it left that
