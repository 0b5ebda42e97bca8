"""What a project writes by relative path: where it works, what is sent, and what is fetched again."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.run_samples import train_run, tune_run
from trainer_app.__main__ import main
from trainer_app.checkpoint import CommittedTensors
from trainer_app.checkpoint.tensors import read_checksums
from trainer_app.config import loads
from trainer_app.results import fetch, load_run
from trainer_app.run import artifacts, working_folder
from trainer_app.run.artifacts import Limits, Sender, find_changed
from trainer_app.run.spec import RunSpec
from trainer_app.storage import Store, open_store
from trainer_app.training import files
from trainer_app.training.files import keep_files
from trainer_app.user_errors import FitProgress

pytestmark = pytest.mark.unit
MANY = Limits(files=100, size=1 << 30)


def write(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder with code, inputs and earlier logs, as the working directory."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "tmp").mkdir()
    folder = tmp_path / "project"
    for name in ("net.py", "input.txt", "logs/old.csv", "runs/a/run.json", ".git/config", "__pycache__/net.pyc"):
        write(folder / name, name)
    monkeypatch.chdir(folder)
    return folder


def entered(project: Path, name: str = "t", fill: Any = lambda folder: None) -> Any:
    return working_folder.entered(name, [project], storage=str(project / "runs"), fill=fill)


def keys(store: Store) -> list[str]:
    return [entry.key for entry in store.list()]


def changed(own: working_folder.WorkingFolder) -> list[str]:
    return sorted(find_changed(own.path, own.path.iterdir(), own.since))


def test_a_working_folder_has_the_users_files_and_keeps_them_from_being_written(project: Path) -> None:
    path = list(sys.path)
    with entered(project) as own:
        assert Path.cwd() == own.path != project and working_folder.user_folder() == project
        assert Path("input.txt").read_text() == "input.txt" and Path("runs/a/run.json").exists()
        assert not Path("__pycache__").exists() and Path("net.py").resolve() == project / "net.py"
        assert changed(own) == []
        with Path("input.txt").open("a") as file:
            file.write("more")
        write(Path("logs/new.csv"))
        write(Path("deep/er/x.bin"))
        Path("link").symlink_to("logs/new.csv")
        Path("outside").symlink_to(project / "input.txt")
        assert changed(own) == ["deep/er/x.bin", "input.txt", "link", "logs/new.csv"]
    assert Path.cwd() == project and sys.path == path and not own.path.exists()
    assert (project / "input.txt").read_text() == "input.txt" and not (project / "logs/new.csv").exists()


def test_modules_are_imported_from_the_users_folder_not_from_one_that_will_be_removed(project: Path) -> None:
    sys.path.insert(0, "")
    try:
        with entered(project) as own:
            assert "" not in sys.path and sys.path[0] == str(project) and sys.path[-1] == str(own.path)
    finally:
        sys.path.remove("")


def test_processes_of_one_name_share_the_folder_and_the_last_removes_it(project: Path) -> None:
    with entered(project) as first:
        write(Path("a.txt"))
        with entered(project) as second:
            assert second == first and changed(second) == ["a.txt"]
        assert first.path.exists()
        with entered(project, "other") as third:
            assert third.path != first.path and not Path("a.txt").exists()
    assert not first.path.exists()


def test_folders_of_killed_processes_are_removed_by_the_next_run(project: Path) -> None:
    """Those that a process works in stay, and those of the run itself: its next try finds there what was not sent."""
    root = project.parent / "tmp/trainer-work"
    own = working_folder.name_folder("runs", "r", fit="t00001")
    same_run = working_folder.name_folder("runs", "r", fit="t00002")
    with entered(project, working_folder.name_folder("runs", "working")) as used:
        for name in ("killed", same_run, "tmpcopy"):
            write(root / name / "a.txt")
        write(root / "killed.used")
        with entered(project, own):
            left = {path.name for path in root.iterdir()}
            assert left == {"lock", own, f"{own}.used", same_run, used.path.name, f"{used.path.name}.used"}


def test_a_copy_that_nobody_shares(project: Path, tmp_path: Path) -> None:
    path = list(sys.path)
    with working_folder.in_copy(tmp_path / "copy"):
        assert Path("input.txt").read_text() == "input.txt" and working_folder.user_folder() == Path.cwd() != project
        for name in ("input.txt", "logs/old.csv", "new.txt"):
            write(Path(name), "changed")
    assert Path.cwd() == project and sys.path == path
    assert Path("input.txt").read_text() == "input.txt" and Path("logs/old.csv").read_text() == "logs/old.csv"
    assert not Path("new.txt").exists()


def test_a_large_folder_is_linked(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(working_folder, "MAX_ENTRIES", 20)
    for number in range(30):
        write(project / f"data/{number}.txt")
    with entered(project):
        assert Path("data").is_symlink() and Path("data/29.txt").exists() and not Path("logs").is_symlink()


def test_large_files_are_links(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(working_folder, "MAX_COPIED", 12)
    write(project / "large.bin", "x" * 4)
    with entered(project):
        assert not Path("input.txt").is_symlink() and Path("large.bin").is_symlink()


def test_files_are_sent_while_they_change_and_deleted_when_they_are_gone(project: Path, tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "runs/r/artifacts"))
    with entered(project) as own:
        sender = Sender(store, lambda: find_changed(own.path, own.path.iterdir(), own.since), MANY)
        write(Path("logs/m.csv"), "1")
        sender.send()
        assert keys(store) == ["logs/m.csv"]
        write(Path("logs/m.csv"), "1,2")
        write(Path("top.ckpt"))
        sender.send()
        assert store.get("logs/m.csv") == b"1,2" and keys(store) == ["logs/m.csv"]  # the checkpoint waits
        sender.send(last=True)
        assert keys(store) == ["logs/m.csv", "top.ckpt"]
        Path("top.ckpt").unlink()
        sender.send(last=True)
        assert keys(store) == ["logs/m.csv"]


def test_a_failed_fits_files_are_sent_too_and_the_next_attempt_has_them(project: Path, tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "runs/r/artifacts/t00000"))

    def attempt(name: str) -> list[str]:
        with (
            entered(project, name, fill=lambda folder: artifacts.restore(store, folder)) as own,
            Sender(store, lambda: find_changed(own.path, own.path.iterdir(), own.since), MANY),
        ):
            before = changed(own)
            write(Path(f"logs/version_{len(list(Path('logs').iterdir()))}/m.csv"))
            assert before == []
            raise ValueError

    for name in ("first", "second"):
        with pytest.raises(ValueError, match=r"^$"):
            attempt(name)
    assert keys(store) == ["logs/version_1/m.csv", "logs/version_2/m.csv"]
    store.put("torch.py", b"raise SystemExit")
    artifacts.restore(store, tmp_path / "new", skip=("logs/version_2",))
    assert files_in(tmp_path / "new") == ["logs/version_1/m.csv"]


@pytest.mark.parametrize(("limits", "sent"), [(Limits(2, 1000), ["a", "b"]), (Limits(9, 25), ["a", "b"])])
def test_limits_are_said_once_and_leave_out_the_largest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], limits: Limits, sent: list[str]
) -> None:
    files = {name: write(tmp_path / "in" / name, "x" * size) for name, size in (("c", 500), ("b", 20), ("a", 1))}
    store = open_store(str(tmp_path / "out"))
    sender = Sender(store, lambda: files, limits)
    sender.send()
    sender.send(last=True)
    assert keys(store) == [*sent, artifacts.NOT_SENT]
    assert b"c: 500 B, beyond the limit of" in store.get(artifacts.NOT_SENT)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and "storage.artifact_files" in said[0] and "c and larger" in said[0]


def test_a_name_that_no_object_can_have_is_named(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "out"))
    file = write(tmp_path / "in" / "a\\b")
    Sender(store, lambda: {"a\\b": file, "good": file}, MANY).send(last=True)
    assert keys(store) == ["good", artifacts.NOT_SENT] and b"backslash" in store.get(artifacts.NOT_SENT)


@pytest.mark.parametrize("name", [".env", "deep/ID_RSA", ".aws/credentials", "service-account.json", "tls.pem"])
def test_a_file_with_secrets_is_not_sent(tmp_path: Path, name: str) -> None:
    """As `--code` does not pack it: one that the user edits beside a run on a laptop, or that a download brings."""
    store = open_store(str(tmp_path / "out"))
    file = write(tmp_path / "in" / name, "canary")
    Sender(store, lambda: {name: file, "good": file}, MANY).send(last=True)
    assert keys(store) == ["good", artifacts.NOT_SENT]
    assert store.get(artifacts.NOT_SENT).startswith(f"{name}: files of this name hold secrets".encode())


def test_a_storage_that_does_not_answer_is_no_failure_of_the_fit(tmp_path: Path) -> None:
    write(tmp_path / "file")
    file = write(tmp_path / "in")
    Sender(open_store(str(tmp_path / "file")), lambda: {"a": file}, MANY).send(last=True)


def test_a_checkpoint_that_a_commit_has_is_not_sent(tmp_path: Path) -> None:
    weights, rng = torch.arange(4.0), torch.arange(9)
    for name, content in {"commit": [weights, rng], "same": [weights], "other": [weights + 1]}.items():
        torch.save(content, tmp_path / f"{name}.ckpt")
    assert read_checksums(tmp_path / "same.ckpt") < read_checksums(tmp_path / "commit.ckpt")
    assert not read_checksums(tmp_path / "other.ckpt") <= read_checksums(tmp_path / "commit.ckpt")
    assert read_checksums(write(tmp_path / "text.ckpt")) == frozenset()
    store = open_store(str(tmp_path / "out"))
    tensors = CommittedTensors()
    tensors.add("a0001", tmp_path / "commit.ckpt")
    assert tensors.find_commit(tmp_path / "same.ckpt", ()) is None  # no longer kept
    files = {name: tmp_path / name for name in ("same.ckpt", "other.ckpt")}
    Sender(store, lambda: files, MANY, lambda path: tensors.find_commit(path, {"a0001"})).send(last=True)
    assert keys(store) == [artifacts.NOT_SENT, "other.ckpt"]
    assert store.get(artifacts.NOT_SENT) == b"same.ckpt: its state is in checkpoints/a0001\n"


def test_other_files_in_the_users_folder_are_not_the_runs(tmp_path: Path) -> None:
    old = write(tmp_path / "old.txt")
    os.utime(old, (1, 1))
    time.sleep(0.05)
    since = time.time() - 0.02
    write(tmp_path / "new.txt")
    write(tmp_path / "venv/pyvenv.cfg")
    write(tmp_path / "runs/r/run.json")
    found = find_changed(tmp_path, tmp_path.iterdir(), since, leave_out=str(tmp_path / "runs"))
    assert list(found) == ["new.txt"]


@pytest.mark.parametrize("working", [True, False])
def test_a_process_that_is_about_to_end_sends_what_its_fits_have_written(tmp_path: Path, working: bool) -> None:
    def save() -> None:
        write(tmp_path / "work/metrics.csv")
        raise ValueError

    (tmp_path / "work").mkdir()
    spec = RunSpec("r", str(tmp_path / "runs"), "", use_gpu=False, folder=str(tmp_path / "work"), in_place=True)
    trainer = SimpleNamespace(loggers=[SimpleNamespace(save=save, save_dir=None)], callbacks=[], profiler=None)
    progress = FitProgress()
    with keep_files(loads("model: {class_path: a.Model}"), spec, None, progress):
        progress.trainer = trainer
        if working:
            write(tmp_path / "work/new.ckpt")
            files.send_files()
            assert keys(open_store(str(tmp_path / "runs/r/artifacts"))) == ["metrics.csv", "new.ckpt"]
    files.send_files()
    assert (tmp_path / "work/metrics.csv").exists() == working


# --- fetch


def with_artifacts(storage: Path) -> None:
    store = open_store(str(storage))
    train_run(store)
    run = store.child("fashion-1")
    for key in ("artifacts/logs/m.csv", "artifacts/t00001/x.bin", "logs/driver/a0001.000.log"):
        run.put(key, key.encode())


def files_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_fetch_brings_artifacts_the_best_checkpoint_and_logs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with_artifacts(tmp_path / "runs")
    out = tmp_path / "out"
    assert main(["fetch", "fashion-1", "-o", str(out), "--storage", str(tmp_path / "runs")]) == 0
    best = "checkpoints/a0001-e000002-s000000020"
    assert files_in(out) == [
        "artifacts/logs/m.csv",
        "artifacts/t00001/x.bin",
        f"{best}/checkpoint.ckpt",
        f"{best}/manifest.json",
        "logs/driver/a0001.000.log",
    ]
    assert (out / "artifacts/logs/m.csv").read_text() == "artifacts/logs/m.csv"
    assert capsys.readouterr().out.startswith("5 files of fashion-1, ")


@pytest.mark.parametrize(
    ("pattern", "brought"),
    [
        ("*.csv", ["artifacts/logs/m.csv"]),
        ("artifacts", ["artifacts/logs/m.csv", "artifacts/t00001/x.bin"]),
        ("t00001", ["artifacts/t00001/x.bin"]),
        ("./logs/m.csv", ["artifacts/logs/m.csv"]),
        ("logs/driver/", ["logs/driver/a0001.000.log"]),
    ],
)
def test_a_pattern_chooses(tmp_path: Path, pattern: str, brought: list[str]) -> None:
    with_artifacts(tmp_path / "runs")
    assert main(["fetch", str(tmp_path / "runs/fashion-1"), pattern, "-o", str(tmp_path / "out")]) == 0
    assert files_in(tmp_path / "out") == brought


def test_a_pattern_that_matches_nothing_says_what_there_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with_artifacts(tmp_path / "runs")
    assert main(["fetch", str(tmp_path / "runs/fashion-1"), "*.png", "-o", str(tmp_path / "out")]) != 0
    assert "matches *.png; it has artifacts/logs/m.csv" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("key", ["../x", "a/../../x", "/etc/x", "a\\..\\x", "a/./x", "a\nb"])
def test_no_name_from_storage_leads_out_of_the_folder(tmp_path: Path, key: str) -> None:
    out = tmp_path / "deep/out"
    (problem,) = fetch.fetch(open_store(str(tmp_path / "runs")), [key], out)
    assert repr(key) in problem and files_in(tmp_path) == []


def test_a_link_in_the_folder_is_not_followed_out_of_it(tmp_path: Path) -> None:
    with_artifacts(tmp_path / "runs")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/artifacts").symlink_to(tmp_path / "elsewhere")
    assert main(["fetch", str(tmp_path / "runs/fashion-1"), "-o", str(tmp_path / "out")]) == 1
    assert files_in(tmp_path / "elsewhere") == []


def test_a_folder_that_is_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with_artifacts(tmp_path / "runs")
    out = write(tmp_path / "out")
    assert main(["fetch", str(tmp_path / "runs/fashion-1"), "-o", str(out)]) == 2
    assert "give a folder that you can write" in capsys.readouterr().err


def test_results_list_the_artifacts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = open_store(str(tmp_path / "runs"))
    tune_run(store)
    for number in range(12):
        store.child("mnist-1").put(f"artifacts/t00001/{number:02d}.csv", b"12345")
    store.child("mnist-1").put("artifacts/t00002/a.csv", b"1")
    assert main(["results", str(tmp_path / "runs/mnist-1"), "--trial", "t00001"]) == 0
    shown = capsys.readouterr().out
    assert "artifacts: 12, 60 B; copy them: trainer fetch" in shown and "and 2 more: --json names all" in shown
    assert "t00001/09.csv (5 B)" in shown and "t00001/10.csv" not in shown
    assert len(load_run(str(tmp_path / "runs"), "mnist-1").artifacts) == 13
