"""`validate --deep` makes the parts of the Trainer: what their constructors raise is named by key."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer_app.cli.validate import report
from trainer_app.errors import ConfigError

pytestmark = pytest.mark.unit

CODE = """
import lightning as L
from lightning.pytorch.plugins import Precision

class Bad(L.Callback):
    def __init__(self, number: int = 1):
        raise ValueError("no such number")

class Broken(Precision):
    def __init__(self):
        raise ValueError("broken")

class Needy(L.Callback):
    def __init__(self):
        raise RuntimeError("no CUDA device")
"""
RUN = "model: {class_path: lightning.pytorch.demos.boring_classes.BoringModel}\ntrainer: {max_epochs: 1}\n"


@pytest.fixture
def deep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    (tmp_path / "trainer_parts.py").write_text(CODE)
    (tmp_path / "run.yaml").write_text(RUN)
    return tmp_path


def notes(part: str) -> list[str]:
    return [line.strip() for line in report(["run.yaml"], [f"trainer.{part}"], deep=True) if "made" in line]


@pytest.mark.usefixtures("deep")
@pytest.mark.parametrize(
    ("part", "says"),
    [
        (
            "callbacks=[{class_path: EarlyStopping, init_args: {monitor: a}}, {class_path: trainer_parts.Bad}]",
            "trainer.callbacks.1: making it raised ValueError: no such number (trainer_parts.py:7)",
        ),
        ("callbacks+=[{class_path: trainer_parts.Bad}]", "trainer.callbacks.0: making it raised ValueError: no such"),
        (
            "callbacks={class_path: ModelCheckpoint, init_args: {save_top_k: -5}}",
            "trainer.callbacks: making it raised MisconfigurationException: Invalid value for save_top_k=-5",
        ),
        ("plugins=[{class_path: trainer_parts.Broken}]", "trainer.plugins.0: making it raised ValueError: broken"),
        ("logger=[{class_path: CometLogger}]", "trainer.logger.0: needs the package comet_ml, which is not installed"),
    ],
)
def test_a_constructor_that_raises(part: str, says: str) -> None:
    with pytest.raises(ConfigError) as raised:
        notes(part)
    assert says in str(raised.value) and raised.value.exit_code == 2


@pytest.mark.usefixtures("deep")
@pytest.mark.parametrize(
    ("part", "key"),
    [
        ("strategy=deepspeed", "trainer.strategy"),
        ("callbacks=[{class_path: trainer_parts.Needy}]", "trainer.callbacks.0"),
    ],
)
def test_what_needs_a_gpu_is_said(part: str, key: str) -> None:
    (line,) = notes(part)
    assert line.startswith(f"note: {key}: can't be made on this machine, which has no GPU: ")


@pytest.mark.usefixtures("deep")
def test_what_can_be_made_writes_nothing(tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*.*"))
    for part in (
        "callbacks=[{class_path: ModelCheckpoint, init_args: {dirpath: kept}}]",
        "logger=[{class_path: CSVLogger, init_args: {save_dir: logs}}]",
        "profiler={class_path: SimpleProfiler, init_args: {dirpath: times, filename: a}}",
        "profiler=simple",
        "strategy=ddp",
    ):
        assert notes(part) == []
    assert [path for path in sorted(tmp_path.rglob("*.*")) if "__pycache__" not in path.parts] == before
