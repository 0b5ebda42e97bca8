"""Two drivers of one run on a real S3 server."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.races import run_races
from tests.s3 import S3
from trainer_app.run import lease
from trainer_app.storage import open_store

pytestmark = pytest.mark.local


@pytest.mark.full
def test_races_of_two_drivers_on_s3_have_one_winner(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "LEASE_S", 2.0)
    monkeypatch.setattr(lease, "POLL_S", 0.1)
    run_races(open_store(s3.uri), tmp_path, count=200, at_once=10)
