"""TensorBoard's files of a run, copied from its storage while the run writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer_app.cli import tensorboard
from trainer_app.errors import NotFoundError
from trainer_app.records import RunFolder, RunRecord
from trainer_app.results.event_files import EventFiles
from trainer_app.storage import Store, open_store

pytestmark = pytest.mark.unit
FILE = "artifacts/t00000/lightning_logs/version_0/events.out.tfevents.1.host.0"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "runs")).child("r")


def test_what_grows_is_appended_to(store: Store, tmp_path: Path) -> None:
    """A file put in its place would not be read by a TensorBoard that has the former one open."""
    files, copy = EventFiles(store, tmp_path / "copy"), tmp_path / "copy" / FILE.removeprefix("artifacts/")
    assert files.update() == 0
    store.put(FILE, b"one")
    store.put("artifacts/t00000/metrics.csv", b"x")
    assert files.update() == 1
    with copy.open("rb") as reader:
        assert reader.read() == b"one"
        store.put(FILE, b"onetwo")
        assert files.update() == 1
        assert reader.read() == b"two"
    assert [path.name for path in (tmp_path / "copy").rglob("*") if path.is_file()] == [copy.name]


def test_a_run_without_event_files_says_where_they_come_from(tmp_path: Path, store: Store) -> None:
    record = RunRecord.model_validate({"name": "r", "task": "train"})
    RunFolder.create(open_store(str(tmp_path / "runs")), record, "")
    with pytest.raises(NotFoundError, match=r"run r has no files of TensorBoard: .*TensorBoardLogger"):
        tensorboard.show(str(tmp_path / "runs"), "r", 0)
    with pytest.raises(NotFoundError, match="other"):
        tensorboard.show(str(tmp_path / "runs"), "other", 0)
