"""A canary as S3's secret key: found in no object, file, log or process argument of a run."""

from __future__ import annotations

import base64
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.local import scan
from tests.local.commands import Command, Place
from tests.local.runs import run_file
from tests.s3 import S3Server
from trainer_app.config import dump

pytestmark = [pytest.mark.local, pytest.mark.timeout(900)]  # of which 60 s where nothing else runs


def test_the_scanner_finds_what_was_planted(s3_server: S3Server, tmp_path: Path) -> None:
    canary = secrets.token_hex(20)
    plain, coded, odd = tmp_path / "a/plain", tmp_path / "coded", tmp_path / f"name-{canary}"
    plain.parent.mkdir()
    plain.write_bytes(b"\x80\x04" + canary.encode() + b"\0")
    coded.write_bytes(base64.b64encode(b"key=" + canary.encode() + b"; and more"))
    odd.touch()
    (tmp_path / "other").write_text(secrets.token_hex(20))
    assert sorted(scan.files([tmp_path], canary)) == sorted(str(f) for f in (plain, coded, odd))

    client, bucket = s3_server.client(), s3_server.new_bucket()
    client.put_object(Bucket=bucket, Key="a/b", Body=b"x" + canary.encode())
    client.put_object(Bucket=bucket, Key="a/c", Body=b"x")
    assert scan.objects(client, bucket, canary) == (2, ["a/b"])

    words = [sys.executable, "-c", "import time; time.sleep(60)", canary]
    with scan.Arguments(canary) as seen, subprocess.Popen(words) as process:
        deadline = time.monotonic() + 20
        while not seen.found and time.monotonic() < deadline:
            time.sleep(0.02)
        process.kill()
    assert len(seen.found) == 1 and canary in seen.found[0]


class Scene:
    """A sweep whose storage is a bucket of its own, run to its end while the arguments of processes are looked at."""

    def __init__(self, place: Place, server: S3Server, folder: Path) -> None:
        self.place, self.server, self.folder, self.bucket = place, server, folder, server.new_bucket()
        tune = {
            "metric": "val_acc",
            "mode": "max",
            "num_samples": 1,
            "space": {"model.init_args.fail_at": {"grid_search": [99, 1]}},  # one trial fails: its traceback is logged
        }
        uri = f"s3://{self.bucket}/runs?endpoint_override={server.endpoint}"
        config = run_file(uri, trainer={"max_epochs": 2}, tune=tune)
        (folder / "run.yaml").write_text(dump(config))
        with scan.Arguments(server.secret_key) as self.arguments:
            self.command: Command = place.run("tune", "run.yaml", "--name", "canary", "--test", "--json", cwd=folder)


@pytest.fixture(scope="module")
def scene(s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    env = {k: v for k, v in s3_server.env.items() if k != "AWS_ENDPOINT_URL"}  # the storage's URI has it
    with Place(env) as place:
        place.env.pop("OMP_NUM_THREADS", None)  # as on a person's machine
        yield Scene(place, s3_server, tmp_path_factory.mktemp("secrets"))


def test_the_sweep_used_the_canary(scene: Scene) -> None:
    assert scene.command.code == 0, scene.command.err
    states = {e["trial"]: e["state"] for e in scene.command.of("trial")}
    assert states == {"t00000": "finished", "t00001": "failed"}
    assert len(scene.server.secret_key) >= 40 and scene.place.env["AWS_SECRET_ACCESS_KEY"] == scene.server.secret_key


def test_a_trial_has_one_thread_for_its_cpu(scene: Scene) -> None:
    """Its process imported torch before Ray gave it work, and with it OMP_NUM_THREADS."""
    lines = [e["metrics"]["threads"] for e in scene.command.of("epoch")]
    assert lines and set(lines) == {1.0}


def test_no_object_holds_it(scene: Scene) -> None:
    count, found = scan.objects(scene.server.client(), scene.bucket, scene.server.secret_key)
    assert count >= 8 and found == []


def test_no_output_holds_it(scene: Scene) -> None:
    assert not scan.holds((scene.command.out + scene.command.err).encode(), scene.server.secret_key)


def test_no_file_holds_it(scene: Scene) -> None:
    """Ray's session and log files, the command's log and all scratch folders lie in the place's temporary folder."""
    tmp = scene.place.tmp
    logs = [f for f in tmp.glob("ray/session_2*/logs/*") if f.stat().st_size]
    assert len(logs) > 5 and any("worker" in f.name for f in logs)
    (log,) = tmp.glob("trainer-*/canary*.log")
    assert "planned failure" in log.read_text()
    assert scan.files([tmp, scene.folder], scene.server.secret_key) == []


def test_no_process_had_it_as_an_argument(scene: Scene) -> None:
    assert any(b"raylet" in line for line in scene.arguments.seen) and any(b"ray::" in x for x in scene.arguments.seen)
    assert scene.arguments.found == []
