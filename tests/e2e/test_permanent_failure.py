"""A run that can't succeed ends soon, and says why."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.e2e.kind import NAMESPACE, Cluster, until
from tests.e2e.runs import ONE_POD, submit, wait

pytestmark = pytest.mark.timeout(900)
Name = Callable[[str], str]


NO_CLASS = ("model.class_path=nowhere.to.be.Found", "model.init_args={}")


def test_a_class_that_is_not_in_the_image(cluster: Cluster, name: Name) -> None:
    """One cluster, although three more would be allowed."""
    run = name("no-class")
    submit(cluster, "train", run, *NO_CLASS, *ONE_POD)
    until("error in the status", lambda: "nowhere" in cluster.status(run), seconds=150)
    told = cluster.status(run)
    assert told.splitlines()[0].endswith(": failed") and "error" in told
    first = cluster.cluster_of(run)
    assert wait(cluster, run).code == 1
    rayjob = cluster.get("rayjob", run)
    assert (rayjob["spec"]["backoffLimit"], rayjob["status"]["failed"]) == (0, 1)
    assert (rayjob["status"]["rayClusterName"], rayjob["status"]["jobDeploymentStatus"]) == (first, "Failed")
    assert "nowhere" in cluster.status(run)
    assert {key.partition(".")[0] for key in cluster.objects(run, "logs/driver/")} == {"logs/driver/a0001"}


@pytest.mark.full
def test_without_access_to_the_api_it_is_repeated(cluster: Cluster, name: Name) -> None:
    """On another cluster, which says how the first ended, and starts nothing."""
    run = name("repeated")
    without = ("--set", "submitter.apiAccess=false", "--set", "lifetime.backoffLimit=1")
    submit(cluster, "train", run, *NO_CLASS, *without, *ONE_POD)
    assert wait(cluster, run).code == 1
    assert "nowhere" in cluster.status(run)
    assert cluster.get("rayjob", run)["status"]["failed"] == 2
    assert {key.partition(".")[0] for key in cluster.objects(run, "logs/driver/")} == {"logs/driver/a0001"}


@pytest.mark.full
def test_a_pool_that_is_never_scheduled(cluster: Cluster, name: Name) -> None:
    """It ends in the seconds given, and says what was missing then and afterwards; with room it is resumed."""
    run, seconds = name("no-room"), 20
    limit = ("--set", f"lifetime.preRunningDeadlineSeconds={seconds}", "--set", "lifetime.backoffLimit=0")
    submit(cluster, "train", run, "trainer.max_epochs=1", *limit, *ONE_POD, *memory("900Gi"))
    began = time.monotonic()
    until("reason in the status", lambda: "Insufficient memory" in cluster.status(run), seconds=15)
    ended = wait(cluster, run, timeout=120)
    assert ended.code == 1 and "Insufficient memory" in ended.err, ended.err
    assert time.monotonic() - began < seconds + 15  # the operator looks every few seconds
    assert "Insufficient memory" in cluster.status(run)
    cluster.trainer("resume", run, "-n", NAMESPACE, "-f", "kind", *ONE_POD, *memory("3Gi"), timeout=400).ok()
    assert wait(cluster, run).code == 0
    assert cluster.results(run)["state"] == "succeeded"


def memory(size: str) -> tuple[str, ...]:
    both = ",".join(f"pools.cpu.resources.{what}.memory={size}" for what in ("requests", "limits"))
    return ("--set", both)


@pytest.mark.full
def test_a_quota_that_leaves_no_room(cluster: Cluster, name: Name) -> None:
    """Pods that Kubernetes does not even make: the reason is in events alone."""
    cluster.settle()
    run = name("quota")
    with cluster.quota("little", "requests.memory=64Mi"):
        submit(cluster, "train", run, *ONE_POD)
        until("quota in the status", lambda: "exceeded quota" in cluster.status(run), seconds=30)
