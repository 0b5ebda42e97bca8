"""`make submit-tune`, as a new user runs it, with a submitter's rights."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.kind import NAMESPACE, ROOT, TRAINER, Cluster, until
from tests.e2e.runs import EPOCH, wait

pytestmark = pytest.mark.timeout(900)
Made = Callable[..., tuple[str, str]]


@pytest.fixture
def made(cluster: Cluster) -> Iterator[Made]:
    """`make WORDS` as a submitter: (run, what make printed). The runs are deleted at the end."""
    runs: list[str] = []

    def make(*words: str) -> tuple[str, str]:
        """At most 4 minutes: no more than that is allowed for the tune."""
        text = cluster.make(*words, timeout=240, admin=False)
        submitted = re.search(r"submitted run (\S+) to", text)
        assert submitted, text
        runs.append(submitted[1])
        return submitted[1], text

    yield make
    for run in runs:
        cluster.trainer("delete", run, timeout=400).ok()


def test_submit_tune(cluster: Cluster, made: Made, tmp_path: Path) -> None:
    run, printed = made("submit-tune")
    found = cluster.results(run)
    assert found["state"] == "succeeded" and len(found["trials"]) == 4
    assert found["uri"].startswith("s3://trainer/runs/")  # the run file says `uri: runs`, a folder
    check_metrics(found, printed)
    check_checkpoint(cluster, run, found["checkpoint"]["uri"])
    assert cluster.trainer("wait", "-n", NAMESPACE).ok().err.startswith(f"run {run}: ")  # this user's newest
    check_pages(cluster, run, tmp_path / "page.html")


@pytest.mark.full
def test_two_tunes_and_quick_verbs(cluster: Cluster, made: Made) -> None:
    first, _ = made("submit-tune")
    second, _ = made("submit-tune")
    assert second != first
    listed = json.loads(cluster.trainer("list", "-n", NAMESPACE, "--json").ok().out)
    assert {first, second} <= {run["run"] for run in listed["runs"] if run["state"] == "succeeded"}
    assert cluster.trainer("wait", "-n", NAMESPACE).ok().err.startswith(f"run {second}: ")  # this user's newest
    cluster.settle()
    check_quick(cluster, second, limit_s=2.0)


def check_checkpoint(cluster: Cluster, run: str, uri: str) -> None:
    """The best checkpoint, from MinIO, whole. The trials were in two pods."""
    stored = cluster.objects(run)
    folder = uri.partition("?")[0].partition(f"/{run}/")[2]
    told = json.loads(stored[f"{folder}/manifest.json"])["objects"]["checkpoint.ckpt"]
    payload = stored[f"{folder}/checkpoint.ckpt"]
    assert told == {"size": len(payload), "sha256": hashlib.sha256(payload).hexdigest()}
    assert len({key.split("/")[1] for key in stored if key.startswith("logs/worker-")}) == 2


def check_pages(cluster: Cluster, run: str, file: Path) -> None:
    """`report` and `ui`, each through a port-forward of its own; Ctrl-C ends `ui` and all that it has started."""
    words = [TRAINER, "ui", "-n", NAMESPACE, "--port", "0"]
    pipe, began = subprocess.PIPE, time.monotonic()
    with subprocess.Popen(words, env=cluster.env(), stderr=pipe, text=True, start_new_session=True) as ui:
        assert ui.stderr
        try:
            cluster.trainer("report", run, "-n", NAMESPACE, "-o", str(file)).ok()
            assert run in file.read_text()
            address = re.match(r"trainer ui: (http://127\.0\.0\.1:\d+/)", ui.stderr.readline())
            assert address
            (row,) = until("the run in the list", lambda: ask(f"{address[1]}api/runs?text={run}")["rows"], seconds=30)
            (shown,) = ask(f"{address[1]}api/report?run={run}")["runs"]
            assert (row["name"], row["state"], len(shown["fits"])) == (run, "succeeded", 4)
            ui.send_signal(signal.SIGINT)
            assert ui.wait(15) == 130 and ui.stderr.read() == ""
            with pytest.raises(ProcessLookupError):
                os.killpg(ui.pid, 0)
        finally:
            ui.kill()
    print(f"[e2e] trainer report and trainer ui: {time.monotonic() - began:.1f} s")


def ask(address: str) -> Any:
    with urllib.request.urlopen(address, timeout=30) as answer:
        return json.loads(answer.read())


def check_quick(cluster: Cluster, run: str, *, limit_s: float) -> None:
    """Median of five, of what does not wait, on a run that is there."""
    slow = {}
    for verb in ("status", "list", "results", "logs", "stop", "resume"):
        words = (verb,) if verb == "list" else (verb, run)
        times = sorted(cluster.trainer(*words, "-n", NAMESPACE).ok().seconds for _ in range(5))
        print(f"[e2e] trainer {verb}: {times[2]:.1f} s, median of 5")
        if times[2] > limit_s:
            slow[verb] = times
    assert slow == {}


def test_submit_train(cluster: Cluster, made: Made) -> None:
    """`make submit-train`: a worker on each of two pods."""
    run, _ = made("submit-train", "ARGS=trainer.max_epochs=2")
    found = cluster.results(run)
    assert found["state"] == "succeeded" and [line["epoch"] for line in found["history"]] == [0, 1]


def check_metrics(found: dict, printed: str) -> None:  # type: ignore[type-arg]
    """What was read from MinIO is what the driver printed, epoch by epoch."""
    lines = {(m[1], int(m[2]) - 1): m[4] for m in EPOCH.finditer(printed)}
    histories = {(t["trial"], line["epoch"]): line["metrics"] for t in found["trials"] for line in t["history"]}
    assert lines.keys() == histories.keys()
    for key, words in lines.items():
        told = dict(pair.split("=") for pair in words.split())
        assert float(told["val_accuracy"]) == pytest.approx(histories[key]["val_accuracy"], rel=1e-3)


def test_rendered_manifests_are_accepted_as_they_are(cluster: Cluster) -> None:
    for file in (ROOT / "k8s" / "rendered").glob("*.yaml"):
        cluster.kubectl("apply", "--dry-run=server", "-f", str(file))


@pytest.mark.full
def test_a_rendered_manifest_runs(cluster: Cluster) -> None:
    run = "rendered-tune"
    cluster.forget(run)
    cluster.kubectl("apply", "-f", str(ROOT / "k8s" / "rendered" / "rayjob-tune.yaml"))
    try:
        assert wait(cluster, run).code == 0
        assert cluster.results(run)["state"] == "succeeded"
    finally:
        cluster.kubectl("delete", "-f", str(ROOT / "k8s" / "rendered" / "rayjob-tune.yaml"), "--wait=false")


@pytest.mark.full
def test_render_and_submit_are_quick(cluster: Cluster, name: Callable[[str], str]) -> None:
    """Median of five: 2 s. A quota keeps what is submitted from having pods; a run before this one has left."""
    cluster.settle()
    words = ("tune", "trainer_app/examples/mnist/tune.yaml", "-f", "kind", "-n", NAMESPACE)
    names = [name("quick") for _ in range(5)]
    with cluster.quota("no-pods", "pods=0"):
        rendered = sorted(cluster.trainer("render", *words).ok().seconds for _ in range(5))
        submitted = sorted(cluster.trainer("submit", *words, "--name", run).ok().seconds for run in names)
        for run in names:
            cluster.trainer("delete", run, "-n", NAMESPACE, "--grace", "0", timeout=400).ok()
    assert rendered[2] <= 2.0 and submitted[2] <= 2.0, (rendered, submitted)


def test_doctor_finds_nothing_wrong(cluster: Cluster) -> None:
    found = cluster.trainer("doctor", "-f", "kind", "-n", NAMESPACE)
    assert found.code == 0, found.out + found.err
    assert "operator:v1.6.0" in found.out
    inside = cluster.trainer("doctor", "-f", "kind", "-n", NAMESPACE, "--in-cluster", timeout=90)
    assert inside.code == 0 and "in-cluster storage" in inside.out, inside.out + inside.err


def test_make_names_what_is_missing() -> None:
    missing = (("kind", "kind-load"), ("docker", "image"), ("kubectl", "operator"), ("helm", "submit-tune"))
    for tool, target in missing:
        command = ["/usr/bin/make", target]
        done = subprocess.run(command, cwd=ROOT, env={"PATH": "/nowhere"}, capture_output=True, text=True, timeout=30)
        assert done.returncode and f"error: {tool} is not on PATH" in done.stderr
