"""Runs as the end-to-end tests submit them, and what they look at afterwards."""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from itertools import pairwise
from typing import Any

from tests.e2e.kind import BUCKET, HELM, NAMESPACE, ROOT, Cluster, Done, until

MNIST = "trainer_app/examples/mnist"
# Ray drains a worker for 5 s less than its grace.
SOON = ("--set", "poolDefaults.terminationGracePeriodSeconds=10")
ONE_POD = ("--set", "pools.cpu.replicas=1")  # of a worker, for what needs no more: a pod costs 10 s of both cores
# One line an epoch, as the driver prints it: `t00001 epoch 3/5 step 135 val_accuracy=0.91 ... 2.1s`
EPOCH = re.compile(r"^(?:(t\d{5}) )?epoch (\d+)/\d+ step (\d+) (.*?) [\d.]+\S*$", re.MULTILINE)
BEGIN_S = 300.0  # to pods, Ray, torch and the first epoch, on 2 cores that 4 nodes share


def helm(cluster: Cluster, *words: str, timeout: float = 240, check: bool = True) -> str:
    """`helm WORDS` as admin, in the runs' namespace; what it printed."""
    command = [HELM, "--kubeconfig", str(cluster.admin), "-n", NAMESPACE, *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def submit(cluster: Cluster, task: str, run: str, *words: str) -> Done:
    """Of the MNIST example, on the digits that scikit-learn brings: a pod has no way out."""
    file = f"{MNIST}/{task}.yaml"
    given = ("submit", task, file, "data.init_args.source=digits", "-f", "kind", "-n", NAMESPACE, "--name", run)
    return cluster.trainer(*given, *words).ok()


def submit_paced(cluster: Cluster, run: str, *words: str) -> Done:
    """A train run with 2 workers on 2 pods that goes on until `finish`: room to disturb it on any machine."""
    told = {"class_path": "paced.Paced", "init_args": {"bucket": BUCKET, "key": f"finish/{run}"}}
    given = (f"trainer.callbacks={json.dumps([told])}", "trainer.max_epochs=300", "scaling.num_workers=2")
    return submit(cluster, "train", run, *given, "--code", "tests/e2e/own_code", *SOON, *words)


def finish(cluster: Cluster, run: str) -> None:
    """The run ends with the epoch that it is in."""
    with cluster.bucket() as s3:
        s3.put_object(Bucket=BUCKET, Key=f"finish/{run}", Body=b"")


def done(cluster: Cluster, run: str) -> int:
    found = cluster.results(run)
    return int(found["done"]) if found else 0


def until_epochs(cluster: Cluster, run: str, epochs: int) -> None:
    until(f"{epochs} epochs of {run}", lambda: done(cluster, run) >= epochs, seconds=BEGIN_S)


def wait(cluster: Cluster, run: str, *, timeout: float = 480) -> Done:
    return cluster.trainer("wait", run, "-n", NAMESPACE, timeout=timeout)


def went_on(cluster: Cluster, run: str, first: str) -> str:
    """What is to be said of a run that lost its head while it was on RayCluster `first`."""
    return "in place" if cluster.cluster_of(run) == first else "on a new cluster"


def epochs_in(text: str) -> Counter[tuple[str, int]]:
    """How often each (trial, epoch) was reported."""
    return Counter((match[1] or "", int(match[2])) for match in EPOCH.finditer(text))


def epochs_by_attempt(stored: dict[str, bytes]) -> list[list[int]]:
    """The epochs whose metrics each attempt wrote, from `metrics/a<attempt>-<part>.jsonl`."""
    found: dict[str, list[int]] = {}
    for key in sorted(stored):
        lines = [json.loads(line)["epoch"] for line in stored[key].splitlines() if line]
        found.setdefault(key.partition("-")[0], []).extend(lines)
    return [epochs for epochs in found.values() if epochs]


def check_whole(cluster: Cluster, run: str) -> Any:
    """The run has each epoch once in its results and in what its drivers printed, and its attempts went on from each
    other: what one wrote down and did not commit is all that the next one may have trained again."""
    found = cluster.results(run)
    assert found["state"] == "succeeded"
    epochs = list(range(found["done"]))
    assert epochs and [line["epoch"] for line in found["history"]] == epochs
    stored = epochs_by_attempt(cluster.objects(run, "metrics/"))
    for before, attempt in pairwise(stored):
        # A worker that is killed between an epoch's metrics and its commit has not reported that epoch.
        assert attempt[0] in (before[-1], before[-1] + 1), stored
    assert all(attempt == list(range(attempt[0], attempt[-1] + 1)) for attempt in stored), stored
    assert stored[0][0] == 0 and stored[-1][-1] == epochs[-1], stored
    printed = epochs_in(cluster.driver_log(run))  # a head lost by force takes the last seconds of its log with it
    assert set(printed.values()) == {1}, f"epochs that were trained again: {printed}"
    return found
