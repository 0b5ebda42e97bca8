"""What killed processes leave, in a storage and among the temporary files, and who removes it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tests.run_samples import train_run
from trainer_app import temporary
from trainer_app.__main__ import main
from trainer_app.checkpoint import Manifest, list_commits, write_commit
from trainer_app.checkpoint.leftovers import remove_leftovers
from trainer_app.records import FitFolder
from trainer_app.run import documents, lease_file
from trainer_app.run.identity import this_process
from trainer_app.storage import Store, open_store
from trainer_app.temporary import make_folder, remove_folders, temporary_folder

pytestmark = pytest.mark.unit

WRITER = """
import shutil, sys, time
from trainer_app.storage import open_store

def write_slowly(source, target, size):
    target.write(b"x" * 5000)
    target.flush()
    print("writing", flush=True)
    time.sleep(60)

shutil.copyfileobj = write_slowly
open_store(sys.argv[1]).put(sys.argv[2], b"")
"""


class Writer:
    """A process that is in the middle of a write until it is killed."""

    def __init__(self, storage: str, key: str) -> None:
        command = [sys.executable, "-c", WRITER, storage, key]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout and self.process.stdout.readline() == "writing\n"

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def committed(fit_folder: FitFolder, folder: Path, epochs: int, attempt: int = 1) -> None:
    (folder / "payload").write_bytes(b"payload")
    manifest = Manifest(epochs=epochs, step=epochs, attempt=attempt, world_size=1, time=0.0)
    write_commit(fit_folder.checkpoints, folder / "payload", manifest)


def hidden(storage: str) -> list[str]:
    return sorted(one.key for one in open_store(storage).list_unfinished())


def test_the_next_attempt_removes_what_a_killed_one_left_and_nothing_of_a_live_one(tmp_path: Path) -> None:
    storage = str(tmp_path / "storage")
    fit_folder = FitFolder(open_store(storage).child("run"))
    committed(fit_folder, tmp_path, 1)
    fit_folder.checkpoints.put("a0001-e000002-s000000002/checkpoint.ckpt", b"without a manifest")
    fit_folder.checkpoints.put("a0002-e000002-s000000002/checkpoint.ckpt", b"of this attempt")
    dead = Writer(storage, "run/checkpoints/a0001-e000003-s000000003/checkpoint.ckpt")
    live = Writer(storage, "run/checkpoints/a0002-e000003-s000000003/checkpoint.ckpt")
    dead.kill()
    assert len(hidden(storage)) == 2
    remove_leftovers(fit_folder, 2)
    assert hidden(storage) == ["run/checkpoints/a0002-e000003-s000000003"]
    names = ["a0001-e000001-s000000001", "a0002-e000002-s000000002"]
    assert fit_folder.checkpoints.list_folders() == names
    assert [commit.name for commit in list_commits(fit_folder.checkpoints)] == names[:1]
    live.kill()
    remove_leftovers(fit_folder, 3)
    assert hidden(storage) == [] and fit_folder.checkpoints.list_folders() == names[:1]


def held_elsewhere(store: Store) -> None:
    other = replace(this_process(), host="head-2", machine="another boot", pid=7)
    documents.write(store, lease_file.KEY, {"holder": other.name, "expires": time.time() + 60, **asdict(other)})


def test_clean_shows_and_removes_what_is_orphaned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    storage = str(tmp_path / "storage")
    for run in ("ended", "held"):
        open_store(storage).put(f"{run}/run.json", b"{}")
        for place in (run, f"{run}/trials/t00000"):
            committed(FitFolder(open_store(storage).child(place)), tmp_path, 1)
            open_store(storage).put(f"{place}/checkpoints/a0001-e000002-s000000002/checkpoint.ckpt", b"bare")
    writer = Writer(storage, "ended/checkpoints/a0001-e000003-s000000003/checkpoint.ckpt")
    held_elsewhere(open_store(storage).child("held"))

    def clean(*options: str) -> str:
        assert main(["clean", storage, *options]) == 0
        return capsys.readouterr().out

    assert "e000003" not in clean() and clean().count("without a manifest") == 2
    writer.kill()
    shown = clean()
    assert shown.count("unfinished write") == 1 and "(3 in" in shown and "--yes" in shown and "held" not in shown
    before = [entry.key for entry in open_store(storage).list("held")]
    assert "removed (3 in" in clean("--yes")
    assert hidden(storage) == [] and [entry.key for entry in open_store(storage).list("held")] == before
    assert clean() == f"nothing is orphaned in {storage}\n"
    for place in ("ended", "ended/trials/t00000"):
        assert len(list_commits(FitFolder(open_store(storage).child(place)).checkpoints)) == 1


def test_clean_touches_nothing_that_is_no_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a project writes by a relative path `checkpoints/...`, and others' folders in the same bucket."""
    storage = open_store(str(tmp_path / "runs"))
    train_run(storage, "mine")
    bare = "a0001-e000002-s000000002/checkpoint.ckpt"
    kept = [
        "mine/artifacts/checkpoints/last/model.ckpt",
        f"mine/artifacts/checkpoints/{bare}",
        f"mine/trials/t00000/artifacts/checkpoints/{bare}",
        "mine/checkpoints/step-100/weights.bin",
        f"others/checkpoints/{bare}",
        "others/model/checkpoints/step-1/model.safetensors",
    ]
    for key in kept:
        storage.put(key, b"theirs")
    others = Writer(storage.uri, "others/big.bin")
    others.kill()
    assert main(["clean", storage.uri, "--yes", "--older-than", "0"]) == 0
    assert capsys.readouterr().out == f"nothing is orphaned in {storage.uri}\n"
    assert all(storage.exists(key) for key in kept) and hidden(storage.uri)


def test_clean_removes_predictions_that_nobody_continues(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Those whose newest part is old enough, that no process works on; no other folder in a run's `predictions`."""
    storage = open_store(str(tmp_path / "runs"))
    train_run(storage, "mine")
    old, young, held, theirs = (f"mine/predictions/{name}" for name in ("0" * 16, "1" * 16, "2" * 16, "theirs"))
    for folder in (old, young, held, theirs):
        for part in range(2):
            storage.put(f"{folder}/part-{part:06d}.parquet", b"rows")
            if folder != young or part == 0:
                os.utime(tmp_path / "runs" / folder / f"part-{part:06d}.parquet", (time.time() - 90_000,) * 2)
    held_elsewhere(storage.child(held))
    os.utime(tmp_path / "runs" / held / lease_file.KEY, (time.time() - 90_000,) * 2)

    def clean(*options: str) -> list[str]:
        assert main(["clean", storage.uri, *options]) == 0
        shown = capsys.readouterr().out
        return [folder for folder in (old, young, held, theirs) if f"{folder} " in shown]

    assert clean() == clean("--yes") == [old] and clean("--older-than", "30") == []
    assert storage.list_folders("mine/predictions") == ["1" * 16, "2" * 16, "theirs"]
    assert clean("--older-than", "0") == [young]


HOLDER = """
import sys, time
from trainer_app.temporary import make_folder
print(make_folder("killed"), flush=True)
time.sleep(60)
"""


def test_temporary_folders_of_killed_processes_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(temporary, "TRIES", 1)
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", HOLDER], env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        folder = Path(process.stdout.readline().strip())
        (folder / "a" / "b").mkdir(parents=True)
        make_folder("mine")
        with temporary_folder("other") as other:
            assert Path(other).is_dir()
        remove_folders()
        assert list(tmp_path.iterdir()) == [folder]
        process.kill()
        process.wait(10)
    remove_folders()
    assert list(tmp_path.iterdir()) == []
