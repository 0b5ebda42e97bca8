"""FSDP2 with workers on two nodes: each uploads its own shards, and a lost one leaves no checkpoint without them."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.e2e.kind import BUCKET, NAMESPACE, Cluster, until
from tests.e2e.runs import BEGIN_S, SOON, check_whole, done, finish, until_epochs, wait

pytestmark = [pytest.mark.full, pytest.mark.timeout(900), pytest.mark.faults]
Name = Callable[[str], str]
FILE = "trainer_app/examples/text_classifier/train.yaml"
# The image is on one node for CPUs and on the one that stands for GPUs: a pod on each.
TWO_NODES = (
    "pools.cpu.replicas=1,pools.other.replicas=1,pools.other.nodeSelector.trainer/pool=gpu,"
    "pools.other.tolerations[0].operator=Exists"
)


def test_shards_of_two_nodes_are_committed_together(cluster: Cluster, name: Name) -> None:
    run = name("sharded")
    paced = [{"class_path": "paced.Paced", "init_args": {"bucket": BUCKET, "key": f"finish/{run}"}}]
    science = ("trainer.strategy=fsdp2", "trainer.max_epochs=300", "scaling.num_workers=2", "checkpoint.keep=null")
    given = ("submit", "train", FILE, *science, f"trainer.callbacks={json.dumps(paced)}", "-f", "kind")
    about = ("-n", NAMESPACE, "--name", run, "--code", "tests/e2e/own_code", "--set", TWO_NODES)
    cluster.trainer(*given, *about, *SOON).ok()
    until_epochs(cluster, run, 2)
    workers = cluster.pods(run, "worker")
    assert len({pod["spec"]["nodeName"] for pod in workers}) == 2
    cluster.kubectl("delete", "pod", workers[1]["metadata"]["name"], "--wait=false", "--grace-period=0", "--force")
    until("recovery", lambda: "in place" in cluster.status(run), seconds=BEGIN_S)
    until_epochs(cluster, run, done(cluster, run) + 1)
    finish(cluster, run)
    assert wait(cluster, run).code == 0
    check_whole(cluster, run)
    stored = cluster.objects(run, "checkpoints/")
    commits = {key.partition("/")[0] for key in (key.removeprefix("checkpoints/") for key in stored)}
    assert len(commits) >= 3
    for commit in commits:
        manifest = json.loads(stored[f"checkpoints/{commit}/manifest.json"])
        sizes = {key: len(stored[f"checkpoints/{commit}/{key}"]) for key in manifest["objects"]}
        assert {"__0_0.distcp", "__1_0.distcp", ".metadata", "meta.pt"} == {*sizes}
        assert sizes == {key: one["size"] for key, one in manifest["objects"].items()}
