"""Runs as the end-to-end tests submit them, and what they look at afterwards."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

from tests.e2e.kind import NAMESPACE, Cluster, Done, until

MNIST = "trainer_app/examples/mnist"
ONE_POD = ("--set", "pools.cpu.replicas=1")  # of a worker, for what needs no more: a pod costs 10 s of both cores
# One line an epoch, as the driver prints it: `t00001 epoch 3/5 step 135 val_accuracy=0.91 ... 2.1s`
EPOCH = re.compile(r"^(?:(t\d{5}) )?epoch (\d+)/\d+ step (\d+) (.*?) [\d.]+\S*$", re.MULTILINE)
EPOCHS = 8
BEGIN_S = 150.0  # to pods, Ray, torch and the first epoch, on 2 cores that 4 nodes share


def submit(cluster: Cluster, task: str, run: str, *words: str) -> Done:
    """Of the MNIST example, on the digits that scikit-learn brings: a pod has no way out."""
    file = f"{MNIST}/{task}.yaml"
    given = ("submit", task, file, "data.init_args.source=digits", "-f", "kind", "-n", NAMESPACE, "--name", run)
    return cluster.trainer(*given, *words).ok()


def submit_long(cluster: Cluster, run: str, *words: str, epochs: int = EPOCHS) -> Done:
    """A train run with 2 workers on 2 pods whose epochs take 4 s each: room to disturb it."""
    slow = ("data.init_args.batch_size=8", f"trainer.max_epochs={epochs}", "scaling.num_workers=2")
    # Ray drains a worker for 5 s less than its grace: in 30 s these runs would be over before the worker is lost.
    soon = ("--set", "poolDefaults.terminationGracePeriodSeconds=10")
    return submit(cluster, "train", run, *slow, *soon, *words)


def done(cluster: Cluster, run: str) -> int:
    found = cluster.results(run)
    return int(found["done"]) if found else 0


def until_epochs(cluster: Cluster, run: str, epochs: int) -> None:
    until(f"{epochs} epochs of {run}", lambda: done(cluster, run) >= epochs, seconds=BEGIN_S)


def wait(cluster: Cluster, run: str, *, timeout: float = 240) -> Done:
    return cluster.trainer("wait", run, "-n", NAMESPACE, timeout=timeout)


def went_on(cluster: Cluster, run: str, first: str) -> str:
    """What is to be said of a run that lost its head while it was on RayCluster `first`."""
    return "in place" if cluster.cluster_of(run) == first else "on a new cluster"


def epochs_in(text: str) -> Counter[tuple[str, int]]:
    """How often each (trial, epoch) was reported."""
    return Counter((match[1] or "", int(match[2])) for match in EPOCH.finditer(text))


def check_whole(cluster: Cluster, run: str, epochs: int) -> Any:
    """The run has each epoch once: in its results, in what each attempt stored, and in what its drivers printed."""
    found = cluster.results(run)
    assert found["state"] == "succeeded"
    assert [line["epoch"] for line in found["history"]] == list(range(epochs))
    stored = b"".join(cluster.objects(run, "metrics/").values()).splitlines()
    assert sorted(json.loads(line)["epoch"] for line in stored if line) == list(range(epochs))
    printed = epochs_in(cluster.driver_log(run))
    assert set(printed.values()) == {1}, f"epochs that were trained again: {printed}"
    return found
