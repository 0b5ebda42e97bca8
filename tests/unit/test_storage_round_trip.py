"""The check of a storage that doctor, its pod and `helm test` share."""

from pathlib import Path

import pytest

from trainer_app.errors import StorageError, TrainerError
from trainer_app.results import list_runs
from trainer_app.storage.folder import FolderStore
from trainer_app.storage.round_trip import check_round_trip

pytestmark = pytest.mark.unit


def test_an_object_is_written_read_and_deleted(tmp_path: Path) -> None:
    assert "wrote, read and deleted an object" in check_round_trip(str(tmp_path))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert list_runs(str(tmp_path)) == []


def test_other_bytes_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FolderStore, "get", lambda *_: b"other")
    with pytest.raises(TrainerError, match="returned other bytes"):
        check_round_trip(str(tmp_path))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_storage_that_can_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file"):
        check_round_trip(str(tmp_path / "file"))
