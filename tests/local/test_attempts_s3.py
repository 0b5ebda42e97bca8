"""What attempts of a run share, on a real S3 server."""

from __future__ import annotations

import hashlib
import io
import os
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest

from tests.s3 import S3
from trainer_app.errors import LeaseLostError
from trainer_app.records import RunFolder, RunRecord
from trainer_app.run import decision, documents, lease, lease_file, logs, stop, user_code
from trainer_app.storage import open_store

pytestmark = pytest.mark.local


def test_an_attempt_on_s3(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.env.items():
        monkeypatch.setenv(name, value)
    storage = open_store(s3.uri)
    store = storage.child("toy-1")

    def begin(mine: str = "s-1") -> str:
        return decision.decide_under_lease(storage, "toy-1", mine, task="train", say=lambda text: None).what

    assert begin() == "create"
    RunFolder.create(storage, RunRecord(name="toy-1", task="train", submission="s-1"), "name: toy\n")
    token = lease.token(store)
    lease_file.check_token(store, token)
    lease.release(store)
    assert begin() == "resume"
    with pytest.raises(LeaseLostError):
        lease_file.check_token(store, token)
    lease.release(store)

    look = stop.StopPoll(store)
    assert not look() and stop.read_request(store) is None
    documents.write(store, stop.REQUEST, {"id": "stop-1"})
    assert begin() == "stopped"
    lease.release(store)
    stop.write_answer(store, {"epochs": 1, "step": 2, "commit": None})
    assert stop.is_answered(store)
    stop.withdraw_request(store)
    RunFolder.open(storage, "toy-1").update(state="succeeded")
    assert begin() == "replay"

    (tmp_path / "x.log").write_bytes(b"")
    with logs.driver_uploader(store, 1, tmp_path / "x.log"):
        (tmp_path / "x.log").write_bytes(b"words\n")
    assert store.get("logs/driver/a0001.000.log") == b"words\n"


def test_code_from_s3(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", "")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("m.py", "X = 1\n")
    digest = hashlib.sha256(archive.getvalue()).hexdigest()
    store = open_store(s3.uri).child("toy-1")
    store.put(f"code/{digest}.zip", archive.getvalue())
    folder = user_code.install(store, digest)
    assert folder is not None and (folder / "m.py").read_text() == "X = 1\n"
    assert os.environ["PYTHONPATH"] == str(folder)
