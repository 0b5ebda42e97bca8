"""A run stored in a PersistentVolumeClaim that one node at a time may write, with all its pods on that node."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.kind import NAMESPACE, Cluster, until
from tests.e2e.runs import BEGIN_S, SOON, epochs_in, submit, wait, went_on

pytestmark = [pytest.mark.timeout(900), pytest.mark.faults]
Name = Callable[[str], str]
# The submitter's code goes to a storage that the launcher can write: nothing here can tell the run to end. Its epochs
# take 2 to 4 s each, and what is left of them after the first is more than the head's drain of 5 s.
EPOCHS = 12
SLOW = ("data.init_args.batch_size=8", f"trainer.max_epochs={EPOCHS}", "scaling.num_workers=2")
CLAIM = (
    "storage.bucket=,storage.endpoint=,storage.existingSecret=",
    "storage.claim.size=1Gi,storage.claim.accessModes[0]=ReadWriteOnce",
    "lifetime.ttlSecondsAfterFinished=600",  # its pods are what can read the volume
)


@pytest.fixture
def claimed(cluster: Cluster, name: Name) -> Iterator[str]:
    """The name of a run whose claim, which outlives it, is deleted after it."""
    run = name("volume")
    yield run
    cluster.kubectl("delete", "pvc", "-l", f"trainer/run={run}", "--wait=false")


@pytest.mark.full
def test_the_head_deleted_of_a_run_in_a_volume(cluster: Cluster, claimed: str) -> None:
    """With its grace; tests/e2e/test_lost.py deletes one by force."""
    submit(cluster, "train", claimed, *SLOW, *SOON, *(word for one in CLAIM for word in ("--set", one)))

    def told() -> str:
        return cluster.trainer("logs", claimed, "-n", NAMESPACE).out

    until("an epoch", lambda: "checkpoint of epoch 1/" in told(), seconds=BEGIN_S, every=0.2)
    first = cluster.pods(claimed, "head")[0]["metadata"]["name"]
    on = cluster.cluster_of(claimed)
    cluster.kubectl("delete", "pod", first, "--wait=false")
    ended = wait(cluster, claimed)
    assert ended.code == 0, ended.out + ended.err
    pods = cluster.pods(claimed)
    assert len({pod["spec"]["nodeName"] for pod in pods}) == 1
    head = cluster.pods(claimed, "head")[0]["metadata"]["name"]
    assert head != first
    assert (
        went_on(cluster, claimed, on) in told()
    )  # the log says it; `status` can't, since nobody outside reads the volume
    found = json.loads(cluster.kubectl("exec", head, "--", "trainer", "results", claimed, "--json"))
    assert found["state"] == "succeeded" and found["attempt"] > 1
    assert [line["epoch"] for line in found["history"]] == list(range(EPOCHS))
    assert set(epochs_in(told()).values()) == {1}  # the submitter has seen both heads: no epoch was trained again
    refused = cluster.trainer("results", claimed, "-n", NAMESPACE)
    assert refused.code == 2 and "kubectl exec" in refused.err
