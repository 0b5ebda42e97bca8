"""k8s/rbac/policy.yaml, which all end-to-end tests run under: a user who submits touches objects of runs only."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.kind import KUBECTL, NAMESPACE, USER, Cluster

ME = f"system:serviceaccount:{NAMESPACE}:{USER}"


def config_map(name: str, run: str = "", user: str = "") -> str:
    meta: dict[str, Any] = {"name": name, "labels": {"trainer/run": run} if run else {}}
    meta["annotations"] = {"trainer/user": user} if user else {}
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta})


POLICY = json.dumps(
    {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "own-deny"},
        "spec": {"podSelector": {"matchLabels": {"nobody": "has"}}, "policyTypes": ["Ingress"]},
    }
)
NO_RUN, NO_NAME, NO_USER = "only objects with the label trainer/run", "has the run's name", "names the user who sets it"


@pytest.fixture
def theirs(cluster: Cluster) -> Iterator[None]:
    """An administrator's NetworkPolicy, and an object of another user's run."""
    made = (("networkpolicy/own-deny", POLICY), ("configmap/theirs-x", config_map("theirs-x", "theirs", "bob")))
    for _, document in made:
        cluster.kubectl("apply", "-f", "-", given=document)
    yield
    for name, _ in made:
        cluster.kubectl("delete", name)


@pytest.mark.parametrize("run, user", [("mine", ME), ("mine", ""), ("mine-2", ME)])
def test_an_object_of_a_run_is_admitted(cluster: Cluster, run: str, user: str) -> None:
    words = ("create", "--dry-run=server", "-f", "-", "--as", ME)
    assert "created" in cluster.kubectl(*words, given=config_map(f"{run}-x", run, user))


@pytest.mark.usefixtures("theirs")
def test_what_is_no_runs_is_refused(cluster: Cluster) -> None:
    create, dry = ("create", "-f", "-"), ("--dry-run=server", "--as", ME)
    for words, given, told in (
        (create, config_map("any"), NO_RUN),
        (create, config_map("any", "mine"), NO_NAME),
        (create, config_map("mine-x", "mine", "bob"), NO_USER),
        (("delete", "networkpolicy", "own-deny"), "", NO_RUN),
        (("label", "networkpolicy", "own-deny", "trainer/run=own-deny"), "", NO_RUN),
        (("label", "--overwrite", "configmap", "theirs-x", "trainer/run=theirs-x"), "", "can't be changed"),
        (("annotate", "--overwrite", "configmap", "theirs-x", "trainer/user=eve"), "", NO_USER),
    ):
        command = [KUBECTL, "--kubeconfig", str(cluster.admin), "-n", NAMESPACE, *words, *dry]
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=60)
        assert done.returncode and told in done.stderr, (words, done.stdout + done.stderr)
