"""What a train run on 2 pods survives: a lost worker, a lost head, an operator that is away at its end."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.e2e.kind import NAMESPACE, Cluster, until
from tests.e2e.runs import BEGIN_S, EPOCHS, check_whole, submit_long, until_epochs, wait

pytestmark = [pytest.mark.timeout(420), pytest.mark.faults]
Name = Callable[[str], str]


def test_a_worker_deleted_in_the_middle(cluster: Cluster, name: Name) -> None:
    run = name("worker-lost")
    submit_long(cluster, run)
    until_epochs(cluster, run, 2)
    first = cluster.cluster_of(run)
    cluster.kubectl("delete", "pod", cluster.pods(run, "worker")[0]["metadata"]["name"], "--wait=false")
    assert wait(cluster, run).code == 0
    assert cluster.cluster_of(run) == first
    check_whole(cluster, run, EPOCHS)
    assert "in place" in cluster.trainer("status", run, "-n", NAMESPACE).out


@pytest.mark.parametrize("words", [(), ("--grace-period=0", "--force")], ids=["gracefully", "by force"])
def test_the_head_deleted(cluster: Cluster, name: Name, words: tuple[str, ...]) -> None:
    run = name("head-lost")
    submit_long(cluster, run)
    until_epochs(cluster, run, 2)
    first = cluster.cluster_of(run)
    cluster.kubectl("delete", "pod", cluster.pods(run, "head")[0]["metadata"]["name"], "--wait=false", *words)
    assert wait(cluster, run, timeout=360).code == 0
    check_whole(cluster, run, EPOCHS)
    word = "in place" if cluster.cluster_of(run) == first else "on a new cluster"
    assert word in cluster.trainer("status", run, "-n", NAMESPACE).out


def test_the_operator_away_over_the_end(cluster: Cluster, name: Name) -> None:
    """And for over 30 s after it: KubeRay then calls the RayJob failed, and its next attempt only says how it ended."""
    run, epochs = name("no-operator"), 4
    submit_long(cluster, run, epochs=epochs)
    until_epochs(cluster, run, 1)
    cluster.kubectl("scale", "deployment/kuberay-operator", "--replicas=0", namespace="kuberay-system")
    try:
        gone = ("wait", "pods", "--all", "--for=delete", "--timeout=60s")
        cluster.kubectl(*gone, check=False, namespace="kuberay-system")
        assert cluster.get("rayjob", run)["status"]["jobDeploymentStatus"] == "Running"
        ended = ("-l", f"trainer/run={run},trainer/role=submitter", "--field-selector=status.phase=Succeeded")
        until("end of the submitter", lambda: cluster.get("pods", *ended), seconds=BEGIN_S)
        time.sleep(32)
    finally:
        cluster.kubectl("scale", "deployment/kuberay-operator", "--replicas=1", namespace="kuberay-system")
    assert wait(cluster, run, timeout=300).code == 0
    check_whole(cluster, run, epochs)
    assert cluster.trainer("status", run, "-n", NAMESPACE).out.splitlines()[0].endswith(": succeeded")
