"""Runs whose S3 server goes away for a while, and fails three requests in ten."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.flaky_proxy import Weather, flaky_proxy
from tests.local.commands import PATIENCE_S, Command, Place
from tests.local.runs import run_file
from tests.s3 import S3, S3Server
from trainer_app import results
from trainer_app.config import dump
from trainer_app.storage import open_retrying

pytestmark = [pytest.mark.local, pytest.mark.timeout(900)]


def run_through(weather: Weather, server: S3Server, folder: Path, verb: str, uri: str, **blocks: Any) -> Command:
    """`trainer VERB` with a run file in which no failure is allowed, its storage behind the proxy."""
    config = run_file(uri, failure={"max_failures": 0}, **blocks)
    (folder / "run.yaml").write_text(dump(config))
    with flaky_proxy(server.endpoint, weather) as url, Place({**server.env, "AWS_ENDPOINT_URL": url}) as place:
        command = place.start(verb, "run.yaml", "--name", "toy-1", "--json", "--log", "run.log", cwd=folder)
        command.end(PATIENCE_S + 2 * weather.outage_s)
        left = [path.name for path in place.tmp.iterdir() if "trainer-tmp-" in path.name]
    log = (folder / "run.log").read_text()[-4000:]
    assert command.code == 0, f"{command.out}\n{command.err}\n{log}"
    assert left == []
    assert weather.failed and (weather.refused or not weather.outage_s)
    assert not command.of("retry"), command.of("retry")
    return command


TRAIN = {"trainer": {"max_epochs": 4}}
TUNE = {
    "trainer": {"max_epochs": 3},
    "tune": {
        "metric": "val_acc",
        "mode": "max",
        "num_samples": 3,
        "max_concurrent_trials": 2,
        "space": {"model.init_args.lr": {"choice": [0.1, 0.2, 0.3]}},
    },
}


@pytest.mark.parametrize("outage_s", [6.0, pytest.param(120.0, marks=pytest.mark.full)])
def test_a_train_run_outlives_bad_weather(outage_s: float, s3: S3, tmp_path: Path) -> None:
    weather = Weather(errors=0.3, outage_s=outage_s)
    command = run_through(weather, s3.server, tmp_path, "train", s3.uri, **TRAIN)
    assert [event["epoch"] for event in command.of("epoch")] == [0, 1, 2, 3]
    run = results.load_run(s3.uri, "toy-1")
    assert (run.record.state, run.record.attempt, run.problems) == ("succeeded", 1, [])
    assert [line["epoch"] for line in run.fits[0].history] == [0, 1, 2, 3]
    said = [event["text"] for event in command.of("storage")]
    assert "waiting for the storage, up to 600 s (failure.storage_timeout_s)" in said[0], said
    assert len(said) == 2 and said[1].startswith("the storage answers again"), said


@pytest.mark.full
@pytest.mark.parametrize("outage_s", [7.0, 120.0])
def test_a_sweep_outlives_bad_weather(outage_s: float, s3: S3, tmp_path: Path) -> None:
    weather = Weather(errors=0.3, outage_s=outage_s)
    command = run_through(weather, s3.server, tmp_path, "tune", s3.uri, **TUNE)
    run = results.load_run(s3.uri, "toy-1")
    assert (run.record.state, run.record.attempt, run.problems) == ("succeeded", 1, [])
    records = [fit.record for fit in run.trials if fit.record]
    assert [(record.state, record.attempts) for record in records] == [("finished", 1)] * 3
    assert all([line["epoch"] for line in fit.history] == [0, 1, 2] for fit in run.trials)
    assert sorted((e["trial"], e["epoch"]) for e in command.of("epoch")) == [
        (record.trial, epoch) for record in sorted(records, key=lambda r: r.trial) for epoch in range(3)
    ]


def test_objects_written_in_bad_weather_are_whole(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    weather = Weather(errors=0.3)
    with flaky_proxy(s3.server.endpoint, weather) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        store = open_retrying(f"{s3.uri}/objects", 60, begun=True)
        for number in range(30):
            store.put(f"k/{number:02d}", str(number).encode(), create=number % 2 == 0)
        assert [store.get(entry.key) for entry in store.list()] == [str(number).encode() for number in range(30)]
        assert [entry.size for entry in store.list("k")] == [len(str(number)) for number in range(30)]
    assert weather.failed > 10
