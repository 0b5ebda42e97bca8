"""What a train run on 2 pods survives: a lost worker, a lost head, an operator that is away at its end."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.e2e.kind import NAMESPACE, Cluster
from tests.e2e.runs import EPOCHS, check_whole, submit_long, until_epochs, wait

pytestmark = [pytest.mark.timeout(420), pytest.mark.faults]
Name = Callable[[str], str]


def test_a_worker_deleted_in_the_middle(cluster: Cluster, name: Name) -> None:
    run = name("worker-lost")
    submit_long(cluster, run)
    until_epochs(cluster, run, 2)
    cluster.kubectl("delete", "pod", cluster.pods(run, "worker")[0]["metadata"]["name"], "--wait=false")
    assert wait(cluster, run).code == 0
    check_whole(cluster, run, EPOCHS)
    assert "in place" in cluster.trainer("status", run, "-n", NAMESPACE).out


@pytest.mark.parametrize("words", [(), ("--grace-period=0", "--force")], ids=["gracefully", "by force"])
def test_the_head_deleted(cluster: Cluster, name: Name, words: tuple[str, ...]) -> None:
    run = name("head-lost")
    submit_long(cluster, run)
    until_epochs(cluster, run, 2)
    cluster.kubectl("delete", "pod", cluster.pods(run, "head")[0]["metadata"]["name"], "--wait=false", *words)
    assert wait(cluster, run, timeout=360).code == 0
    check_whole(cluster, run, EPOCHS)
    told = cluster.trainer("status", run, "-n", NAMESPACE).out
    assert "in place" in told or "on a new cluster" in told


def test_the_operator_away_over_the_end(cluster: Cluster, name: Name) -> None:
    run = name("no-operator")
    submit_long(cluster, run, epochs=5)
    until_epochs(cluster, run, 2)
    operator = ("deployment/kuberay-operator", "-n", "kuberay-system")
    cluster.kubectl("scale", *operator, "--replicas=0")
    try:
        until_epochs(cluster, run, 5)
    finally:
        cluster.kubectl("scale", *operator, "--replicas=1")
    assert wait(cluster, run, timeout=300).code == 0
    check_whole(cluster, run, 5)
