"""The copy of a working folder: what is in it is read, and what is written to it is not in the original."""

import sys
from pathlib import Path

import pytest

from trainer_app.run import mirror

pytestmark = pytest.mark.unit


def test_files_are_copied_and_the_rest_is_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "_MAX_COPIED", 10)
    monkeypatch.setattr(mirror, "_MAX_TOTAL", 15)
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "logs" / "one").mkdir(parents=True)
    (source / ".git").mkdir()
    (source / "env").mkdir()
    (source / "env" / "pyvenv.cfg").write_text("")
    for name, size in {"a.txt": 9, "b.bin": 11, "logs/c.txt": 5, "logs/one/d.txt": 5}.items():
        (source / name).write_text("x" * size)
    (source / "nowhere").symlink_to("gone")
    monkeypatch.setattr(sys, "path", [*sys.path, ""])
    monkeypatch.chdir(source)
    with mirror.mirrored(source, target):
        assert Path.cwd() == target and str(source) in sys.path and "" not in sys.path
        assert {path.name for path in target.rglob("*") if path.is_symlink()} == {
            *(".git", "env", "b.bin", "nowhere"),
            "d.txt",  # beyond the total
        }
        Path("logs/c.txt").write_text("changed")
        Path("logs/one/new.txt").write_text("new")
    assert (source / "logs/c.txt").read_text() == "x" * 5 and not (source / "logs/one/new.txt").exists()


def test_beyond_the_entries_folders_are_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "_MAX_ENTRIES", 3)
    monkeypatch.chdir(tmp_path)
    for name in ("s/a/deep", "s/b/deep"):
        (tmp_path / name).mkdir(parents=True)
    with mirror.mirrored(tmp_path / "s", tmp_path / "t"):
        assert [Path(name).is_symlink() for name in ("a", "b", "a/deep", "b/deep")] == [False, False, True, True]
