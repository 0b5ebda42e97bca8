"""What the chart refuses, the operator refuses too, when it is applied past the chart: one row a rule."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.chart.conftest import RUN_FILE
from tests.chart.kuberay_rules import RULES, Rule
from tests.e2e.kind import KUBECTL, NAMESPACE, Cluster
from trainer_app.launch import helm
from trainer_app.launch.manifests import load_objects

KINDS = "rayjobs,rayclusters,raycronjobs"
WAIT_S = 90.0
LABEL = "trainer/rule"


def broken(rule: Rule, number: int) -> Any:
    """A good object of the chart's, with that one thing done to it."""
    run_file = "" if rule.kind == "RayCluster" else RUN_FILE
    text = helm.template(helm.Release("demo", NAMESPACE, "train", run_file, "demo-1", ("kind",), rule.good))
    good = next(thing for thing in load_objects(text) if thing["kind"] == rule.kind)
    good["metadata"]["name"] = f"rule-{number}"
    good["metadata"]["labels"] = {LABEL: str(number)}
    return rule.broken(good)


def said_by_api(cluster: Cluster, thing: Any) -> str:
    """Creates it; what the API server has against it, if anything."""
    command = [KUBECTL, "--kubeconfig", str(cluster.admin), "-n", NAMESPACE, "create", "-f", "-"]
    done = subprocess.run(command, input=json.dumps(thing), capture_output=True, text=True, timeout=60)
    return done.stderr


def said_by_operator(cluster: Cluster) -> dict[str, str]:
    """By number of the rule: an invalid RayJob has a status, and all three have an event."""
    found: dict[str, str] = {}
    names: dict[str, str] = {}
    for one in cluster.get(KINDS, "-l", LABEL):
        number = one["metadata"]["labels"][LABEL]
        names[one["metadata"]["name"]] = number
        found[number] = str(one.get("status", {}).get("message", ""))
    for event in cluster.get("events"):
        number = names.get(event["involvedObject"]["name"], "")
        if number:
            found[number] += f"\n{event['reason']}: {event.get('message', '')}"
    return found


@pytest.fixture(scope="module")
def said(cluster: Cluster) -> Iterator[dict[str, str]]:
    """All at once: the operator looks at each within seconds, and starts nothing for any."""
    api = {str(number): said_by_api(cluster, broken(rule, number)) for number, rule in enumerate(RULES)}
    end = time.monotonic() + WAIT_S
    while True:
        found = {number: api.get(number, "") + said_by_operator(cluster).get(number, "") for number in api}
        if all(rule.theirs in found[str(number)] for number, rule in enumerate(RULES)) or time.monotonic() > end:
            break
        time.sleep(2)
    yield found
    cluster.kubectl("delete", KINDS, "-l", LABEL, "--wait=false")


@pytest.mark.parametrize("number", range(len(RULES)), ids=lambda number: RULES[number].name)
def test_the_operator_refuses_what_the_chart_refuses(said: dict[str, str], number: int) -> None:
    assert RULES[number].theirs in said[str(number)]
