"""`trainer init` writes files that are valid, and overwrites none. That they train: tests/local/test_starter.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer_app import lightning_cli
from trainer_app.__main__ import main
from trainer_app.cli.init import FILES, STARTER
from trainer_app.config import load

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_all_of_the_starter_is_written() -> None:
    assert sorted(FILES) == sorted(path.name for path in STARTER.iterdir() if path.name != "__pycache__")


@pytest.mark.parametrize(
    "folder, name",
    [
        ("demo", "demo"),
        ("My Project", "my-project"),
        ("a/b_2", "b-2"),
        ("3d", "run-3d"),
        ("null", "null"),
        ("日本", "run"),
    ],
)
def test_the_files_name_the_folder(folder: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", folder]) == 0
    config = load([f"{folder}/run.yaml", f"{folder}/tune.yaml"], [])
    assert (config.name, config.notes, config.tune and config.tune.num_samples) == (name, (), 8)
    for file in FILES:
        assert "starter" not in Path(folder, file).read_text()
    assert f"{folder}/run.yaml" in capsys.readouterr().out


def test_nothing_is_overwritten(capsys: pytest.CaptureFixture[str]) -> None:
    Path("demo").mkdir()
    Path("demo/model.py").write_text("mine")
    assert main(["init", "demo"]) == 2
    assert "demo has model.py: nothing was written" in capsys.readouterr().err
    assert [path.name for path in Path("demo").iterdir()] == ["model.py"]
    assert main(["init", "demo/model.py"]) == 2
    Path("demo/model.py").unlink()
    Path("demo/notes.txt").write_text("mine")
    assert main(["init", "demo"]) == 0 and Path("demo/notes.txt").read_text() == "mine"
    assert main(["init", "demo"]) == 2


def test_a_file_in_place_of_the_folder(capsys: pytest.CaptureFixture[str]) -> None:
    Path("demo").write_text("")
    assert main(["init", "demo"]) == 2
    assert "demo: File exists; give a folder that you can write" in capsys.readouterr().err


def test_the_space_fits_the_code() -> None:
    main(["init", "demo"])
    config = load(["demo/run.yaml", "demo/tune.yaml"], [])
    lightning_cli.add_import_paths(str(Path("demo").resolve()))
    lightning_cli.check_code(config)
    lightning_cli.check_space(config)


@pytest.mark.parametrize(
    "folder, shown", [("my project", "'my project"), ("-x", "./-x"), ("$(x)", "'$(x)"), (".", ".")]
)
def test_the_commands_in_the_files_can_be_copied(folder: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "--", folder]) == 0
    readme, end = Path(folder, "README.md").read_text(), "'" if shown[0] == "'" else ""
    assert f"    trainer train {shown}/run.yaml{end} --test\n" in readme and f"--code {shown}{end} --follow" in readme
    assert f"trainer train {shown}/run.yaml{end}\n" in capsys.readouterr().out


@pytest.mark.parametrize("folder", ["a\nmodel: 1", "a\udcff", "a\u202eb"])
def test_a_folder_that_no_comment_can_name(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", folder]) == 2 and not Path(folder).exists()
    assert "one that can be printed" in capsys.readouterr().err
