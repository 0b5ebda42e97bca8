"""The command `trainer` as a person runs it: in a shell, with pipes, exit codes and Ctrl-C."""

from __future__ import annotations

import json
import re
import shlex
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.local.commands import ROOT, Command, Place
from tests.local.runs import run_file
from trainer_app import results
from trainer_app.config import dump
from trainer_app.records import RunRecord

pytestmark = [pytest.mark.local, pytest.mark.timeout(900)]  # of which 60 s where nothing else runs

EXAMPLE = str(ROOT / "trainer_app/examples/mnist/train.yaml")
DIGITS = (EXAMPLE, "data.init_args.source=digits", "trainer.max_epochs=2", "--name", "digits", "--json")


@pytest.fixture
def place() -> Iterator[Place]:
    with Place() as place:
        yield place


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Command]]:
    """The example on real digits, with --json, tested at the end; and the folder in which `runs` lies."""
    folder = tmp_path_factory.mktemp("digits")
    with Place() as place:
        yield folder, place.run("train", *DIGITS, "--test", cwd=folder)


def test_json_is_all_that_a_machine_reads(digits: tuple[Path, Command]) -> None:
    folder, ran = digits
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.endswith("\n")
    events = [json.loads(line) for line in ran.out.splitlines()]
    assert all(isinstance(event, dict) for event in events)
    kinds = [event["event"] for event in events]
    assert kinds == ["run", "epoch", "checkpoint", "epoch", "checkpoint", "test", "end"]
    assert events[-2]["metrics"]["test_accuracy"] > 0.8 and events[-1]["best"]["value"] > 0.8
    log = Path(events[0]["log"])
    assert log.is_file() and "Lightning" in log.read_text()
    assert "Seed set to" not in log.read_text()  # a line for each trial, and the record has it
    assert results.load_run(str(folder / "runs"), "digits").record.state == "succeeded"


def test_a_name_that_is_taken_is_refused_before_anything_starts(digits: tuple[Path, Command], place: Place) -> None:
    folder, _ = digits
    before = {f: f.read_bytes() for f in folder.rglob("*") if f.is_file()}
    again = place.run("train", *DIGITS, cwd=folder)
    assert (again.code, again.out) == (2, "")
    assert again.err.count("\n") == 1 and "trainer train --resume digits" in again.err
    assert {f: f.read_bytes() for f in folder.rglob("*") if f.is_file()} == before
    assert not place.began_ray


def test_a_finished_run_is_told_to_be_complete_without_ray(digits: tuple[Path, Command], place: Place) -> None:
    folder, first = digits
    before = {f: f.read_bytes() for f in folder.rglob("*") if f.is_file()}
    again = place.run("train", "--resume", str(folder / "runs/digits"), "--json", cwd=place.tmp)
    assert (again.code, again.err) == (0, "")
    (end,) = again.events
    assert (end["event"], end["state"], end["best"]) == ("end", "succeeded", first.of("end")[0]["best"])
    text = place.run("train", "--resume", "digits", cwd=folder).out
    assert text == "run digits is complete: 2 of 2 epochs; to go further: trainer.max_epochs=M\n"
    assert not place.began_ray and again.seconds < 10  # 0.4 s where nothing else runs
    assert {f: f.read_bytes() for f in folder.rglob("*") if f.is_file()} == before


def toy(folder: Path, **blocks: object) -> str:
    """A run file of the toy with its storage in `runs`, relative."""
    (folder / "toy.yaml").write_text(dump(run_file("runs", **blocks)))
    return "toy.yaml"


def test_a_failing_run_is_told_in_plain_lines(tmp_path: Path, place: Place) -> None:
    changes = {"model.init_args.fail_at": 1, "failure.max_failures": 0}
    ran = place.run("train", toy(tmp_path, changes=changes), "--name", "bad", cwd=tmp_path)
    assert ran.code == 1
    text = ran.out + ran.err
    assert "\x1b" not in text and "\r" not in text and "Traceback" not in text
    assert re.search(r"^epoch 1/3 step 4 .*val_acc=", ran.out, re.M)
    assert re.search(r"^end +bad failed in ", ran.out, re.M)
    planned = r"^error +PlannedFailure: planned failure in epoch 1 \(\S+toy\.py:\d+\)$"
    assert len(re.findall(planned, ran.out, re.M)) == 1
    assert not re.search(r"retry|retries", text)  # max_failures is 0: nothing is tried again
    assert re.fullmatch(r"resume with: trainer train (toy\.yaml )?--resume bad --storage \S+\n", ran.err)
    (log,) = set(re.findall(r"^log +(\S+)$", ran.out, re.M))
    assert "toy.py" in Path(log).read_text()  # the traceback
    assert results.load_run(str(tmp_path / "runs"), "bad").record.state == "failed"


@pytest.mark.parametrize(
    "words, said",
    [
        (["toy.yaml", "trainer.max_epoch=1"], "trainer.max_epoch"),
        (["toy.yaml", "model.init_args.sleeep=1"], "sleeep"),
        (["toy.yaml", "--name", "Not_A_Name"], "--name"),
        (["missing.yaml"], "missing.yaml"),
        (["--resume", "nothing"], "nothing"),
    ],
    ids=lambda value: str(value[-1]) if isinstance(value, list) else "",
)
def test_bad_input_makes_no_run(tmp_path: Path, place: Place, words: list[str], said: str) -> None:
    toy(tmp_path)
    ran = place.run("train", *words, cwd=tmp_path)
    assert (ran.code, ran.out) == (2, ""), ran.err
    assert ran.err.count("\n") == 1 and said in ran.err
    assert [f.name for f in tmp_path.iterdir()] == ["toy.yaml"]
    assert place.processes() == []


# --- Ctrl-C, with a LightningCLI project that lies in another folder than the working directory

PROJECT = """
import time
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.cli import LightningCLI
from torch.utils.data import DataLoader, TensorDataset


class Net(L.LightningModule):
    def __init__(self, width: int, hold: str):
        super().__init__()
        self.save_hyperparameters()
        self.body = torch.nn.Linear(width, 2)

    def on_train_epoch_start(self):
        deadline = time.monotonic() + 280
        while self.current_epoch and not Path(self.hparams.hold).exists():
            if time.monotonic() > deadline:
                raise TimeoutError("nobody let it go on")
            time.sleep(0.01)

    def training_step(self, batch, index):
        loss = torch.nn.functional.cross_entropy(self.body(batch[0]), batch[1])
        self.log("loss", loss, on_step=False, on_epoch=True)
        return loss


class Data(L.LightningDataModule):
    def __init__(self, width: int = 4, count: int = 32):
        super().__init__()
        self.width = width
        self.count = count

    def train_dataloader(self):
        x = torch.randn(self.count, self.width, generator=torch.Generator().manual_seed(0))
        return DataLoader(TensorDataset(x, (x.sum(1) > 0).long()), batch_size=4)


class ProjectCLI(LightningCLI):
    def add_arguments_to_parser(self, parser):
        parser.link_arguments("data.width", "model.width")
        parser.add_argument("--purpose", type=str, default="none")


def make_cli(args=None):
    variables = {"default_env": True, "env_prefix": "MINE"}
    return ProjectCLI(Net, Data, run=False, args=args, parser_kwargs=variables)
"""
PROJECT_FILE = {
    "cli": "my_project:make_cli",
    "name": "mine",
    "purpose": "a test",
    "seed_everything": 3,
    "data": {"width": 6},
    "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.1}},
    "trainer": {"max_epochs": 3},
    "scaling": {"use_gpu": False},
}


VARIABLES = {"MINE_DATA__COUNT": "16"}  # which the project's LightningCLI reads in a worker or a trial


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """From its second epoch on the model waits for the file `go`: else the run may be over before it is interrupted."""
    (tmp_path / "project").mkdir()
    (tmp_path / "project/my_project.py").write_text(PROJECT)
    (tmp_path / "project/config.yaml").write_text(
        yaml.safe_dump({**PROJECT_FILE, "model": {"hold": str(tmp_path / "go")}})
    )
    return tmp_path


def test_ctrl_c_ends_cleanly_and_the_printed_command_goes_on(project: Path, place: Place) -> None:
    command = place.start("train", "project/config.yaml", cwd=project, env=VARIABLES)
    command.until(lambda: "checkpoint of epoch 1/3" in command.out)
    assert any("raylet" in " ".join(p.cmdline()) for p in place.processes())
    command.interrupt()
    assert command.end() == 130
    deadline = time.monotonic() + 15
    while (left := place.processes()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []
    assert "\x1b" not in command.out + command.err and "Traceback" not in command.out + command.err
    record, run = last_run(project)
    assert record.state == "interrupted" and len(run.fits[0].history) == 1
    (printed,) = re.findall(r"^interrupted; resume with: (trainer .+)$", command.err, re.M)

    words = shlex.split(printed)
    assert words[:2] == ["trainer", "train"]
    (project / "go").touch()
    more = place.run(*words[1:], cwd=place.tmp, env=VARIABLES)  # from any folder
    assert more.code == 0, more.err
    record, run = last_run(project)
    assert (record.state, record.attempt) == ("succeeded", 2)
    (fit_folder,) = run.fits
    assert [line["epoch"] for line in fit_folder.history] == [0, 1, 2]
    assert [line["step"] for line in fit_folder.history] == [4, 8, 12]  # 16 samples, as the variable says
    losses = [line["metrics"]["loss"] for line in fit_folder.history]
    assert losses[0] > losses[1] > losses[2]


@pytest.mark.full
def test_sigterm_ends_a_sweep_as_ctrl_c_does(project: Path, place: Place) -> None:
    """And its trials read the variables of the shell."""
    space = {"data.width": {"choice": [6]}}
    block = {"metric": "loss", "mode": "min", "num_samples": 1, "space": space}
    file = project / "project/config.yaml"
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), "tune": block}))
    command = place.start("tune", "project/config.yaml", "--json", cwd=project, env=VARIABLES)
    command.until(lambda: command.of("epoch"))
    command.process.send_signal(signal.SIGTERM)
    assert command.end() == 130
    assert "resume with: trainer tune --resume" in command.err and "Traceback" not in command.err
    record, run = last_run(project)
    assert (record.state, command.of("end")[0]["state"]) == ("interrupted", "interrupted")
    assert [line["step"] for line in run.trials[0].history] == [4]


def last_run(folder: Path) -> tuple[RunRecord, results.RunResults]:
    (found,) = (folder / "runs").iterdir()
    run = results.load_run(str(folder / "runs"), found.name)
    return run.record, run
