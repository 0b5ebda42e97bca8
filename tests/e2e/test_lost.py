"""What a train run on 2 pods survives: a lost worker, a lost head, an operator that is away at its end."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.e2e.kind import Cluster, until
from tests.e2e.runs import BEGIN_S, check_whole, done, finish, submit_paced, until_epochs, wait, went_on

pytestmark = [pytest.mark.timeout(900), pytest.mark.faults]
Name = Callable[[str], str]


def test_a_worker_and_then_the_head_deleted(cluster: Cluster, name: Name) -> None:
    """The worker has its grace, the head none."""
    run = name("lost")
    submit_paced(cluster, run)
    until_epochs(cluster, run, 2)
    first = cluster.cluster_of(run)
    cluster.kubectl("delete", "pod", cluster.pods(run, "worker")[0]["metadata"]["name"], "--wait=false")
    until("recovery", lambda: "in place" in cluster.status(run), seconds=BEGIN_S)
    until_epochs(cluster, run, done(cluster, run) + 1)
    assert cluster.cluster_of(run) == first
    attempt = cluster.results(run)["attempt"]
    head = cluster.pods(run, "head")[0]["metadata"]["name"]
    cluster.kubectl("delete", "pod", head, "--wait=false", "--grace-period=0", "--force")
    # The workers whose head is gone may still finish an epoch: only another attempt has recovered.
    until("next attempt", lambda: cluster.results(run)["attempt"] > attempt, seconds=BEGIN_S)
    finish(cluster, run)
    assert wait(cluster, run).code == 0
    check_whole(cluster, run)
    assert went_on(cluster, run, first) in cluster.status(run)


@pytest.mark.full
def test_the_operator_away_over_the_end(cluster: Cluster, name: Name) -> None:
    """And for over 30 s after it: KubeRay then calls the RayJob failed, and its next attempt only says how it ended."""
    run = name("no-operator")
    submit_paced(cluster, run)
    until_epochs(cluster, run, 1)
    with cluster.without_operator():
        assert cluster.get("rayjob", run)["status"]["jobDeploymentStatus"] == "Running"
        finish(cluster, run)
        until("end of the submitter", lambda: submitter(cluster, run) == "Succeeded", seconds=BEGIN_S)
        time.sleep(32)
    assert wait(cluster, run).code == 0
    check_whole(cluster, run)
    assert cluster.status(run).splitlines()[0].endswith(": succeeded")


def submitter(cluster: Cluster, run: str) -> str:
    """The phase of its newest pod."""
    return str(cluster.pods(run, "submitter")[-1]["status"]["phase"])
