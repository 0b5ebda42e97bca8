"""What a unit test leaves behind is gone before the next one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from trainer_app.run import guard
from trainer_app.storage import Store, open_store


@pytest.fixture(autouse=True)
def guards_end() -> Iterator[None]:
    """Stop a lease that a test took and kept: renewed during another test, its file is one that a trial left open."""
    yield
    for one in list(guard._guards):
        one.stop(wait_s=5)


@pytest.fixture
def small_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cache of its own, and one thread: on busy cores two took 84 s where one takes 2 s, waiting for each other."""
    import torch

    monkeypatch.setenv("TRAINER_CACHE", str(tmp_path / "cache"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The storage `runs` of a working folder, as the commands find it by themselves."""
    monkeypatch.delenv("TRAINER_STORAGE_URI", raising=False)
    monkeypatch.delenv("TRAINER_NAMESPACE", raising=False)
    monkeypatch.chdir(tmp_path)
    return open_store("runs")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A storage that is not in the working folder."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return open_store(str(tmp_path / "runs"))
