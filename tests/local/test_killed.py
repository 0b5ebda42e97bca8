"""SIGKILL to the driver and all of its Ray, then --resume."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.local.commands import Command, Place
from tests.local.runs import Ran, ledger, run_file
from trainer_app import results
from trainer_app.config import RunConfig, dump, loads, override
from trainer_app.errors import LeaseHeldError
from trainer_app.run import lease_file
from trainer_app.storage import Store, open_store

pytestmark = [pytest.mark.local, pytest.mark.usefixtures("ray_session"), pytest.mark.timeout(900)]

EPOCHS = 6
HELD = 4  # the epoch, counted from 0, in which the train run is killed; commits of 1 to 4 epochs are in storage
LR = "model.init_args.lr"
HOLD = "model.init_args.hold_at"


def held_file(storage: Path, *, hold: Path, notes: Path, **blocks: Any) -> RunConfig:
    """A run of `Held` that keeps all of its checkpoints."""
    args = {"mark": str(hold), "ledger": str(notes)}
    model = {"class_path": "tests.local.held_run.Held", "init_args": args}
    given = {"trainer": {"max_epochs": EPOCHS}, "checkpoint": {"keep": None}, **blocks}
    return run_file(storage, model=model, **given)


def stored(storage: Path, name: str) -> RunConfig:
    """The run file to resume with, in process."""
    text = (storage / name / "run.yaml").read_text()
    return override(loads(text), {"storage.uri": str(storage)})


def metrics(storage: Path, name: str, trial: str | None = None) -> list[dict[str, float]]:
    found = results.load_run(str(storage), name)
    return [line["metrics"] for fit_folder in found.fits if fit_folder.trial == trial for line in fit_folder.history]


class Scene:
    """A folder for one run that is killed: storage, the run file, the workers' notes."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.storage, self.notes, self.hold = folder, folder / "runs", folder / "notes", folder / "hold"
        self.notes.mkdir()

    def config(self, **blocks: Any) -> RunConfig:
        return held_file(self.storage, hold=self.hold, notes=self.notes, **blocks)

    @property
    def run(self) -> Store:
        return open_store(str(self.storage)).child("hit")

    def words(self, task: str) -> list[str]:
        return [task, "run.yaml", "--name", "hit", "--json"]

    def start(self, place: Place, task: str, config: RunConfig) -> Command:
        (self.folder / "run.yaml").write_text(dump(config))
        return place.start(*self.words(task), cwd=self.folder)

    def kill(self, place: Place, command: Command) -> None:
        place.kill()
        assert command.end() == -9
        assert results.load_run(str(self.storage), "hit").record.state == "running"  # nobody could write another


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory, ray_session: None) -> list[dict[str, float]]:
    """Metrics of an undisturbed run of the same seed."""
    folder = tmp_path_factory.mktemp("calm")
    ran = Ran("train", held_file(folder / "runs", hold=folder / "hold", notes=folder), "calm")
    assert ran.code == 0 and len(ran.metrics()) == EPOCHS
    assert len({m["train/loss"] for m in ran.metrics()}) == EPOCHS  # each epoch is told from the others
    return ran.metrics()


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Place, Scene]]:
    """A submitted train run whose driver was killed in the third step of epoch HELD."""
    scene = Scene(tmp_path_factory.mktemp("killed"))
    with Place({"TRAINER_SUBMISSION": "hit-1"}) as place:
        config = override(scene.config(), {HOLD: HELD})
        command = scene.start(place, "train", config)
        command.until(Path(f"{scene.hold}.{HELD}").exists)
        with pytest.raises(LeaseHeldError, match="run hit is held by the driver"):
            lease_file.check_not_held(scene.run)
        scene.kill(place, command)
        lease_file.check_not_held(scene.run)  # its process is gone: nobody waits for the lease's end
        shutil.copytree(scene.storage, scene.folder / "damaged")
        yield place, scene


def test_a_killed_run_goes_on_as_if_nothing_had_been(killed: tuple[Place, Scene], calm: list[dict[str, float]]) -> None:
    place, scene = killed
    before = ledger(scene.notes)
    assert Counter(n["epoch"] for n in before) == {**dict.fromkeys(range(HELD), 4), HELD: 3}
    assert metrics(scene.storage, "hit") == calm[:HELD]
    resumed = place.run(*scene.words("train"), cwd=scene.folder)  # as the operator does: the same command again
    assert resumed.code == 0, resumed.err
    assert [e["epoch"] for e in resumed.of("epoch")] == list(range(HELD, EPOCHS))
    assert metrics(scene.storage, "hit") == calm
    record = results.load_run(str(scene.storage), "hit").record
    assert (record.state, record.attempt, record.done) == ("succeeded", 2, EPOCHS)
    (lost,) = record.past
    assert (lost.number, lost.state) == (1, "lost") and "stopped answering at" in lost.reason
    after = Counter((n["epoch"], n["step"]) for n in ledger(scene.notes))
    again = {(HELD, 4 * HELD + step) for step in range(3)}  # the steps of the epoch that was not committed
    assert {place for place, count in after.items() if count > 1} == again and max(after.values()) == 2
    assert len(after) == 4 * EPOCHS
    logs = [entry.key for entry in scene.run.list("logs")]
    assert any(key.startswith("worker-") for key in logs)
    assert "driver/a0002.000.log" in logs
    again_ = place.run(*scene.words("train"), cwd=scene.folder)
    assert (again_.code, [e["event"] for e in again_.events], again_.of("end")[0]["state"]) == (
        0,
        ["run", "end"],
        "succeeded",
    )
    assert again_.seconds < 10 and not again_.of("epoch")


def test_damaged_checkpoints_are_named_and_an_older_one_is_used(
    killed: tuple[Place, Scene], calm: list[dict[str, float]], capfd: pytest.CaptureFixture[str]
) -> None:
    """Of four commits the newest has a flipped bit, the next is cut short, the third has lost its manifest."""
    _, scene = killed
    storage = scene.folder / "damaged"
    kept = sorted((storage / "hit" / "checkpoints").iterdir())
    assert [json.loads((c / "manifest.json").read_text())["epochs"] for c in kept] == list(range(1, HELD + 1))
    flip_a_bit(kept[3] / "checkpoint.ckpt")
    cut(kept[2] / "checkpoint.ckpt")
    (kept[1] / "manifest.json").unlink()
    resumed = Ran("train", stored(storage, "hit"), "hit", resume=True)
    assert resumed.code == 0
    assert [e["epoch"] for e in resumed.of("epoch")] == list(range(1, EPOCHS))
    assert resumed.metrics() == calm
    said = [f"checkpoint {commit.name} is not used: " for commit in kept[2:]] + ["does not match its manifest"]
    log, deadline = "", time.monotonic() + 30
    while not all(part in log for part in said):  # Ray brings the worker's lines, maybe after the run's end
        assert time.monotonic() < deadline, log
        time.sleep(0.1)
        log += "".join(capfd.readouterr())
    assert f"checkpoint {kept[0].name} is not used" not in log


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def test_a_run_killed_before_its_first_epoch_ended(tmp_path: Path, calm: list[dict[str, float]]) -> None:
    scene, go = Scene(tmp_path), tmp_path / "go"
    # Else its first step may come before the kill.
    waits = {"model.init_args.hold": str(go), "model.init_args.hold_from": 0}
    with Place() as place:
        command = scene.start(place, "train", override(scene.config(), waits))
        command.until(lambda: command.of("run"))
        scene.kill(place, command)
    assert not (scene.storage / "hit" / "metrics").exists() and ledger(scene.notes) == []
    go.touch()
    resumed = Ran("train", stored(scene.storage, "hit"), "hit", resume=True)
    assert resumed.code == 0 and resumed.metrics() == calm
    assert resumed.results.record.attempt == 2


# --- sweeps


def sweep(scene: Scene) -> RunConfig:
    """Trials 0 and 1 end, 2 and 3 are held in epochs 1 and 2, 4 has not begun when they are."""
    space = {LR: {"loguniform": [0.01, 0.3]}, HOLD: {"grid_search": [-1, -2, 1, 2, -3]}}
    block = {"metric": "val_acc", "mode": "max", "num_samples": 1, "space": space, "max_concurrent_trials": 2}
    return scene.config(trainer={"max_epochs": 3}, tune=block)


@pytest.fixture(scope="module")
def killed_sweep(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    scene = Scene(tmp_path_factory.mktemp("sweep"))
    with Place() as place:
        command = scene.start(place, "tune", sweep(scene))
        command.until(lambda: all(Path(f"{scene.hold}.{epoch}").exists() for epoch in (1, 2)))
        scene.kill(place, command)
    return scene


def trial_files(scene: Scene, trial: str) -> dict[str, bytes]:
    folder = scene.storage / "hit" / "trials" / trial
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def test_a_killed_sweep_goes_on_where_each_trial_was(killed_sweep: Scene, tmp_path: Path) -> None:
    scene = killed_sweep
    ended = {trial: trial_files(scene, trial) for trial in ("t00000", "t00001")}
    assert all(json.loads(files["trial.json"])["state"] == "finished" for files in ended.values())
    assert not (scene.storage / "hit" / "trials" / "t00004").exists()
    before = ledger(scene.notes)

    resumed = Ran("tune", stored(scene.storage, "hit"), "hit", resume=True)
    undisturbed = Scene(tmp_path)
    for epoch in (1, 2):
        Path(f"{undisturbed.hold}.{epoch}").touch()
    calm = Ran("tune", sweep(undisturbed), "calm")

    assert resumed.code == calm.code == 0
    assert [t.params for t in resumed.results.trials] == [t.params for t in calm.results.trials]
    assert len(calm.results.trials) == 5 and len({t.params[LR] for t in calm.results.trials}) == 5
    for trial in calm.results.trials:
        assert resumed.metrics(trial.trial) == calm.metrics(trial.trial) and trial.epochs == 3
    assert {trial: trial_files(scene, trial) for trial in ended} == ended
    seen = {(e["trial"], e["epoch"]) for e in resumed.of("epoch")}
    assert seen == {("t00002", 1), ("t00002", 2), ("t00003", 2), *(("t00004", epoch) for epoch in range(3))}
    check_ledger(before, ledger(scene.notes), [t.params[LR] for t in calm.results.trials])


def check_ledger(before: list[dict[str, Any]], after: list[dict[str, Any]], rates: list[float]) -> None:
    """No step of a finished trial or a committed epoch was made twice."""

    def steps(lines: list[dict[str, Any]], trial: int) -> Counter[int]:
        return Counter(n["step"] for n in lines if n["lr"] == rates[trial])

    for trial in (0, 1):
        assert steps(before, trial) == steps(after, trial) == dict.fromkeys(range(12), 1)
    for trial, held in ((2, 1), (3, 2)):
        assert set(steps(before, trial)) == set(range(4 * held + 3))
        twice = set(range(4 * held, 4 * held + 3))
        assert steps(after, trial) == {step: 2 if step in twice else 1 for step in range(12)}
    assert not steps(before, 4) and steps(after, 4) == dict.fromkeys(range(12), 1)
