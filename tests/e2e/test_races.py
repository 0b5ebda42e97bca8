"""Two drivers of one run on MinIO, which grants conditional writes as SeaweedFS and a folder do not."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import pytest

from tests.e2e.kind import BUCKET, Cluster
from tests.races import run_races
from trainer_app.run import lease
from trainer_app.storage import open_store

RACES = 200  # each waits for a lease of 2 s


@pytest.mark.full
@pytest.mark.timeout(1200)
def test_races_of_two_drivers_on_minio_have_one_winner(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "LEASE_S", 2.0)
    monkeypatch.setattr(lease, "POLL_S", 0.1)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    with cluster.minio_variables() as variables:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        storage = open_store(f"s3://{BUCKET}/races-{uuid.uuid4().hex[:6]}")
        run_races(storage, tmp_path, count=RACES, at_once=10)
        storage.delete_prefix("")
