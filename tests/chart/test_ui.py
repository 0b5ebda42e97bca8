"""ui.enabled: the pages of runs, with keys that may only read, behind a policy of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from trainer_app.errors import TrainerError

pytestmark = pytest.mark.chart
PAGES = ("kind=UI", "ui.enabled=true", "ui.existingSecret=reader")
Render = Callable[..., Any]


def test_a_release_of_its_own_has_nothing_of_ray(render: Render) -> None:
    objects = render(*PAGES, run_file="")
    assert sorted(objects) == [
        "Deployment/demo-ui",
        "NetworkPolicy/demo-ui",
        "Service/demo-ui",
        "ServiceAccount/demo-ui",
    ]


def test_the_pod(render: Render) -> None:
    pod = render(*PAGES, "serviceAccount.name=runs", run_file="")["Deployment/demo-ui"]["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    assert pod["metadata"]["labels"] == {"trainer/ui": "demo"}  # not trainer/run: a run's policy would let it in
    assert pod["spec"]["serviceAccountName"] == "demo-ui" and pod["spec"]["automountServiceAccountToken"] is False
    assert container["envFrom"] == [{"secretRef": {"name": "reader"}}]
    assert {"name": "TRAINER_STORAGE_URI", "value": "s3://trainer/runs"} in container["env"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
    assert container["command"][:5] == ["python", "-P", "-m", "trainer_app", "ui"]


def test_a_claim_is_mounted_for_reading(render: Render) -> None:
    claim = ("storage.bucket=", "storage.existingSecret=", "storage.endpoint=", "storage.claim.existing=runs")
    objects = render("kind=UI", "ui.enabled=true", *claim, run_file="")
    (container,) = objects["Deployment/demo-ui"]["spec"]["template"]["spec"]["containers"]
    assert {"name": "storage", "mountPath": "/mnt/storage", "readOnly": True} in container["volumeMounts"]
    assert "envFrom" not in container


def test_who_reaches_them_and_what_they_reach(render: Render) -> None:
    policy = render(*PAGES, run_file="")["NetworkPolicy/demo-ui"]["spec"]
    assert policy["podSelector"] == {"matchLabels": {"trainer/ui": "demo"}}
    assert policy["ingress"] == [] and policy["policyTypes"] == ["Ingress", "Egress"]
    ports = [[port["port"] for port in rule["ports"]] for rule in policy["egress"]]
    assert ports == [[53, 53], [9000]]
    proxy = ("ui.from[0].podSelector.matchLabels.app=proxy",)
    (rule,) = render(*PAGES, *proxy, run_file="")["NetworkPolicy/demo-ui"]["spec"]["ingress"]
    assert rule == {
        "from": [{"podSelector": {"matchLabels": {"app": "proxy"}}}],
        "ports": [{"port": 8777, "protocol": "TCP"}],
    }
    assert "NetworkPolicy/demo-ui" not in render(*PAGES, "networkPolicy.enabled=false", run_file="")


def test_beside_a_cluster(render: Render) -> None:
    objects = render("kind=RayCluster", *PAGES[1:])
    assert {"RayCluster/demo", "Deployment/demo-ui", "NetworkPolicy/demo", "NetworkPolicy/demo-ui"} <= set(objects)
    assert not any(name.endswith("-ui") for name in render("kind=RayCluster"))


@pytest.mark.parametrize(
    "sets, said",
    [
        (("kind=UI",), "needs ui.enabled=true"),
        (("kind=UI", "ui.enabled=true"), "ui.enabled needs ui.existingSecret"),
        (("kind=UI", "ui.enabled=true", "ui.existingSecret=trainer-s3"), "whose keys may write"),
        ((*PAGES, "storage.bucket="), "ui.enabled needs the storage"),
        ((*PAGES, "ingress.enabled=true"), "ingress.enabled needs a head"),
        ((*PAGES, "autoscaling.enabled=true"), "autoscaling.enabled is not allowed with kind UI"),
        (("ui.enabled=true", "ui.existingSecret=reader"), "ui.enabled is not allowed with kind RayJob"),
        ((*PAGES, "clusterSelector=big"), "clusterSelector is only allowed with kind RayJob"),
    ],
)
def test_what_is_refused(render: Render, sets: tuple[str, ...], said: str) -> None:
    with pytest.raises(TrainerError) as raised:
        render(*sets, run_file="" if "kind=UI" in sets else None)
    assert said in str(raised.value)
