"""Runs whose storage is S3: train, tune, resume, test, results."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.local.commands import PATIENCE_S, ROOT, Place
from tests.local.runs import run_file
from tests.plain_process import trainer
from tests.s3 import BUCKET, S3Server
from trainer_app.config import dump

pytestmark = [pytest.mark.local, pytest.mark.timeout(900)]  # of which 60 s where nothing else runs


class Runs:
    """What the driver did under a prefix of the bucket, and what it left there."""

    def __init__(self, place: Place, server: S3Server) -> None:
        self.place, self.server, self.prefix = place, server, uuid.uuid4().hex[:12]
        self.uri = f"s3://{BUCKET}/{self.prefix}"
        words = [sys.executable, "-m", "tests.local.s3_driver", self.uri]
        ran = subprocess.run(words, cwd=ROOT, env=place.env, capture_output=True, text=True, timeout=2 * PATIENCE_S)
        assert ran.returncode == 0, ran.stderr
        self.done: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
        client = server.client()
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{self.prefix}/")
        keys = [entry["Key"] for page in pages for entry in page["Contents"]]
        self.objects = {
            key.removeprefix(f"{self.prefix}/"): client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
            for key in keys
        }

    def of(self, attempt: str, kind: str) -> list[dict[str, Any]]:
        return [e for e in self.done[attempt]["events"] if e["event"] == kind]

    def json(self, key: str) -> Any:
        return json.loads(self.objects[key])


@pytest.fixture(scope="module")
def runs(s3_server: S3Server) -> Iterator[Runs]:
    with Place(s3_server.env) as place:
        yield Runs(place, s3_server)


def test_a_train_run_is_committed_there_and_resumed_from_there(runs: Runs) -> None:
    assert [runs.done[attempt]["code"] for attempt in ("train", "longer")] == [0, 0]
    assert [e["epoch"] for e in runs.of("train", "epoch")] == [0, 1]
    assert [e["epoch"] for e in runs.of("longer", "epoch")] == [2, 3]
    record = runs.json("fit/run.json")
    assert (record["state"], record["attempt"], record["done"]) == ("succeeded", 2, 4)
    uris = [e["uri"] for attempt in ("train", "longer") for e in runs.of(attempt, "checkpoint")]
    assert len(uris) == 4 and all(uri.startswith(f"{runs.uri}/fit/checkpoints/") for uri in uris)
    steps = [e["step"] for attempt in ("train", "longer") for e in runs.of(attempt, "epoch")]
    assert steps == [4, 8, 12, 16]  # steps are counted on, so the optimizer and the loops were restored


def test_checkpoints_are_whole_and_old_ones_are_gone(runs: Runs) -> None:
    """keep: 2 keeps the two best and the newest of each run; no temporary object is left."""
    payloads = [key for key in runs.objects if key.endswith("/checkpoint.ckpt")]
    manifests = [key for key in runs.objects if key.endswith("/manifest.json")]
    assert [Path(k).parent for k in payloads] == [Path(k).parent for k in manifests]
    for key in payloads:
        manifest = runs.json(f"{Path(key).parent}/manifest.json")
        wanted = manifest["objects"]["checkpoint.ckpt"]
        data = runs.objects[key]
        assert (wanted["size"], wanted["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    assert 2 <= sum(key.startswith("fit/") for key in payloads) <= 3
    ours = [key for key in runs.objects if "/artifacts/" not in key]  # those are what the project writes
    kinds = {Path(key).name.lstrip("0123456789a-") for key in ours}
    assert kinds == {
        "run.json",
        "run.yaml",
        "report.html",
        "lease.json",
        "trial.json",
        "manifest.json",
        "checkpoint.ckpt",
        ".jsonl",
        ".json",
    }


def test_a_sweep_is_resumed_from_its_records_there(runs: Runs) -> None:
    assert [runs.done[attempt]["code"] for attempt in ("tune", "more")] == [0, 0]
    assert {(e["trial"], e["epoch"]) for e in runs.of("tune", "epoch")} == {
        ("t00000", 0),
        ("t00000", 1),
        ("t00001", 0),
        ("t00001", 1),
    }
    assert [(e["trial"], e["epoch"]) for e in runs.of("more", "epoch")] == [("t00002", 0), ("t00002", 1)]
    records = [runs.json(f"sweep/trials/t{n:05d}/trial.json") for n in range(3)]
    assert [r["state"] for r in records] == ["finished"] * 3
    assert len({r["params"]["model.init_args.lr"] for r in records}) == 3
    best = runs.of("more", "end")[0]["best"]
    assert best["value"] == max(r["best"] for r in records)
    assert best["checkpoint"].startswith(f"{runs.uri}/sweep/trials/{best['trial']}/checkpoints/")


def test_no_object_holds_a_credential(runs: Runs) -> None:
    assert yaml.safe_load(runs.objects["sweep/run.yaml"])["storage"]["uri"] == runs.uri
    for key, data in runs.objects.items():
        for secret in (runs.server.secret_key, runs.server.access_key):
            assert secret.encode() not in data, key


def test_the_best_checkpoint_is_tested_from_there(runs: Runs, tmp_path: Path) -> None:
    ran = runs.place.run("test", "sweep", "--storage", runs.uri, "--json", cwd=tmp_path)
    assert (ran.code, ran.err) == (0, "")
    (event,) = ran.events
    assert event["checkpoint"] == runs.of("more", "end")[0]["best"]["checkpoint"]
    assert 0.5 < event["metrics"]["test_acc"] <= 1.0


def test_results_are_read_without_ray_and_torch(runs: Runs) -> None:
    env = runs.server.env
    shown = trainer("results", "sweep", "--storage", runs.uri, env=env)
    assert shown.returncode == 0, shown.stderr
    assert all(f"t{n:05d}" in shown.stdout for n in range(3)) and "succeeded" in shown.stdout
    found = json.loads(trainer("results", f"{runs.uri}/fit", "--json", env=env).stdout)
    reported = [e["metrics"] for attempt in ("train", "longer") for e in runs.of(attempt, "epoch")]
    assert [line["metrics"] for line in found["history"]] == reported
    assert found["checkpoint"]["uri"] == runs.of("longer", "end")[0]["best"]["checkpoint"]


@pytest.mark.parametrize(
    "task, wrong, code, said",
    [
        ("tune", {"AWS_SECRET_ACCESS_KEY": "wrong-3b1f77"}, 1, "AWS_SECRET_ACCESS_KEY"),
        ("train", {}, 2, "there is no bucket 'missing'"),
    ],
    ids=["secret", "bucket"],
)
def test_a_storage_that_refuses_is_one_line_and_nothing_starts(
    s3_server: S3Server, tmp_path: Path, task: str, wrong: dict[str, str], code: int, said: str
) -> None:
    uri = f"s3://{BUCKET if wrong else 'missing'}/refused"
    space = {"metric": "val_acc", "mode": "max", "space": {"model.init_args.lr": {"uniform": [0.1, 0.2]}}}
    (tmp_path / "run.yaml").write_text(dump(run_file(uri, tune=space)))
    with Place({**s3_server.env, **wrong}) as place:
        ran = place.run(task, "run.yaml", "--name", "refused", cwd=tmp_path)
        assert (ran.code, ran.out) == (code, ""), ran.err
        assert ran.err.count("\n") == 1 and said in ran.err and s3_server.endpoint in ran.err
        assert "wrong-3b1f77" not in ran.err
        assert not place.began_ray
