"""A user's file that hides a module of Python or of a library is named before anything starts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from trainer_app import shadowing
from trainer_app.errors import InputError
from trainer_app.launch.pack import pack
from trainer_app.run import cluster

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("file", "whose"),
    [
        ("queue.py", "Python's own module queue"),
        ("inspect.py", "Python's own module inspect"),
        ("rich.py", "the library rich"),
        ("lightning.py", "the library lightning"),
        ("ray/__init__.py", "the library ray"),
        ("yaml.py", "the library yaml"),  # of PyYAML, which Lightning requires
        ("jinja2.py", "the library jinja2"),  # of torch
        ("numpy.py", "the library numpy"),
    ],
)
def test_a_module_that_hides_a_librarys_is_named(tmp_path: Path, file: str, whose: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text("")
    with pytest.raises(InputError) as refused:
        shadowing.check_folders([tmp_path])
    assert (
        str(refused.value)
        == f"{path if path.parent == tmp_path else path.parent} hides {whose}, which a run imports: rename it"
    )


@pytest.mark.parametrize(
    "file",
    [
        "model.py",
        "data/__init__.py",
        "tests/__init__.py",
        "test.py",
        "trace.py",  # Python's, which no library of a run imports
        "time.py",  # built into Python: no file can hide it
        "pytest.py",  # installed, and not needed by a run
        "ruff.py",
        "queue.yaml",
        "rich/part.py",  # no package: Python goes on to the library
    ],
)
def test_any_other_module_is_left_alone(tmp_path: Path, file: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text("")
    shadowing.check_folders([tmp_path])


def test_a_library_in_the_working_directory_hides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a checkout of a package that is installed from there."""
    (tmp_path / "pytest.py").write_text("")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    shadowing.check_folders([tmp_path])


def test_all_files_in_the_way_are_named(tmp_path: Path) -> None:
    for name in ("queue.py", "rich.py", "model.py"):
        (tmp_path / name).write_text("")
    with pytest.raises(InputError) as refused:
        shadowing.check_folders([tmp_path])
    assert len(str(refused.value).splitlines()) == 2


def test_the_code_of_a_submitted_run_is_checked_before_it_is_packed(tmp_path: Path) -> None:
    (tmp_path / "part").mkdir()
    (tmp_path / "part/queue.py").write_text("")
    (tmp_path / "model.py").write_text("")
    assert pack(tmp_path).names == ("model.py", "part/queue.py")
    (tmp_path / "queue.py").write_text("")
    with pytest.raises(InputError, match=rf"{tmp_path}/queue\.py hides Python's own module queue"):
        pack(tmp_path)


def test_a_run_is_refused_before_its_environment_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "queue.py").write_text("")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"queue\.py hides"):
        cluster.prepare_environment()


def test_the_command_line_reads_its_own_libraries(tmp_path: Path) -> None:
    """Case 31: `python -m` puts the working directory first on the path."""
    (tmp_path / "rich.py").write_text("raise ImportError('mine')\n")
    (tmp_path / "run.yaml").write_text("name: r\nmodel: {class_path: m.M}\nstorage: {uri: runs}\n")
    ran = subprocess.run(
        [sys.executable, "-m", "trainer_app", "train", "run.yaml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 2 and not (tmp_path / "runs/r").exists()
    assert ran.stderr.strip() == f"error: {tmp_path}/rich.py hides the library rich, which a run imports: rename it"
