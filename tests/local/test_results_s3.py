"""Runs in S3, read without Ray and torch; long lists in few requests."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.plain_process import trainer
from tests.run_samples import train_run, tune_run
from tests.s3 import S3
from trainer_app.records import RunRecord
from trainer_app.results import list_runs, load_run
from trainer_app.storage import open_store, s3_client

pytestmark = pytest.mark.local
RUNS = 1100  # more than one page of a listing


def test_results_of_s3_without_ray_torch_and_pickle(s3: S3) -> None:
    storage = open_store(s3.uri)
    train_run(storage, created=100.0)
    tune_run(storage, created=200.0)
    env = {**s3.env, "TRAINER_STORAGE_URI": s3.uri}
    shown = trainer("results", env=env)
    assert shown.returncode == 0, shown.stderr
    assert f"{s3.uri}/mnist-1/trials/t00001/checkpoints/a0001-e000003-" in shown.stdout
    found = json.loads(trainer("results", "mnist-1", "--json", env=env).stdout)
    assert found["best"]["value"] == 0.95 and found["uri"] == f"{s3.uri}/mnist-1"
    full = f"{s3.uri}/fashion-1?endpoint_override={s3.server.endpoint}"
    env.pop("AWS_ENDPOINT_URL")
    alone = json.loads(trainer("results", full, "--json", env={**env, "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}).stdout)
    assert alone["name"] == "fashion-1" and alone["best"]["value"] == 0.9
    assert open_store(alone["checkpoint"]["uri"]).exists("checkpoint.ckpt")
    listed = trainer("list", env={**env, "AWS_ENDPOINT_URL": s3.server.endpoint})
    assert [line.split()[0] for line in listed.stdout.splitlines()] == ["run", "mnist-1", "fashion-1"]


def test_fetch_from_s3_leaves_out_names_that_no_run_writes(s3: S3, tmp_path: Path) -> None:
    """Whoever may write the bucket chooses the keys."""
    train_run(open_store(s3.uri))
    bucket, _, prefix = s3.uri.removeprefix("s3://").partition("/")
    for key in ("logs/m.csv", ".tmp-x"):  # this server itself refuses those with `..`
        s3_client.get_client(None, None).put_object(
            Bucket=bucket, Key="/".join([*([prefix] if prefix else []), "fashion-1/artifacts", key]), Body=b"1"
        )
    done = trainer("fetch", f"{s3.uri}/fashion-1", "artifacts", "-o", str(tmp_path / "a/b/c"), env=s3.env)
    assert (done.returncode, done.stderr) == (0, "")  # a listing leaves out what no run writes
    assert done.stdout.startswith("1 file of fashion-1, "), done.stdout
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["m.csv"]


def test_wrong_keys_are_one_line(s3: S3) -> None:
    shown = trainer("list", s3.uri, env={**s3.env, "AWS_SECRET_ACCESS_KEY": "canary-77aa"})
    assert (shown.returncode, shown.stdout, shown.stderr.count("\n")) == (1, "", 1)
    assert "AWS_SECRET_ACCESS_KEY" in shown.stderr and "canary-77aa" not in shown.stderr


def test_many_runs_in_few_requests(s3: S3) -> None:
    storage = open_store(s3.uri)
    records = [
        RunRecord(name=f"run-{n:04d}", task="train", state="succeeded", created=float(n), done=3, epochs=3, best=0.5)
        for n in range(RUNS)
    ]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda record: storage.put(f"{record.name}/run.json", record.to_json()), records))
    sent: list[str] = []
    client = s3_client.get_client(None, None)
    client.meta.events.register("before-send.s3", lambda request, **_: sent.append(request.url), unique_id="count")
    began = time.monotonic()
    try:
        runs = list_runs(s3.uri)
    finally:
        client.meta.events.unregister("before-send.s3", unique_id="count")
    took = time.monotonic() - began
    assert [run.name for run in runs] == [f"run-{n:04d}" for n in reversed(range(RUNS))]
    assert len(sent) == RUNS + 2  # two pages of names, a GET each
    print(f"list of {RUNS} runs: {took:.1f} s")
    assert took < 60


def test_a_sweep_is_read_in_one_listing(s3: S3) -> None:
    tune_run(open_store(s3.uri))
    sent: list[str] = []
    client = s3_client.get_client(None, None)
    client.meta.events.register("before-send.s3", lambda request, **_: sent.append(request.url), unique_id="count")
    try:
        assert load_run(s3.uri, "mnist-1").done == 3
    finally:
        client.meta.events.unregister("before-send.s3", unique_id="count")
    # run.json, the listing, 4 trial.json, 3 parts of metrics, 4 manifests
    assert len(sent) == 1 + 1 + 4 + 3 + 4
