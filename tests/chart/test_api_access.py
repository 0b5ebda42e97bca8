"""The submitter's right to patch its RayJob: for that one object, in that one pod, and only where it can be so."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.chart.conftest import Rendered, environment, pod_templates

pytestmark = pytest.mark.chart
Render = Callable[..., Rendered]
WITHOUT = {
    "by value": ("submitter.apiAccess=false",),
    "no submitter": ("lifetime.submissionMode=HTTPMode",),
    "by value, on a schedule": ("kind=RayCronJob", "cron.schedule=@daily", "submitter.apiAccess=false"),
    "no run": ("kind=RayCluster",),
}


def token_volumes(pod: Any) -> list[str]:
    """The volumes of a pod that hold a token of its ServiceAccount."""
    sources = {one["name"]: one.get("projected", {}).get("sources", []) for one in pod["spec"]["volumes"]}
    return [name for name, found in sources.items() if any("serviceAccountToken" in source for source in found)]


@pytest.mark.parametrize("sets", [(), ("clusterSelector=big",)], ids=["own cluster", "another's"])
def test_it_may_patch_one_rayjob_and_nothing_else(render: Render, sets: tuple[str, ...]) -> None:
    made = render(*sets)
    rule = {"apiGroups": ["ray.io"], "resources": ["rayjobs"], "resourceNames": ["demo"], "verbs": ["patch"]}
    assert made["Role/demo-submitter"]["rules"] == [rule]
    binding = made["RoleBinding/demo-submitter"]
    assert binding["roleRef"]["name"] == "demo-submitter"
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "demo-submitter", "namespace": "trainer"}]
    submitter = pod_templates(made["RayJob/demo"])["submitter"]
    assert submitter["spec"]["serviceAccountName"] == "demo-submitter"
    assert environment(submitter)["TRAINER_RAYJOB"] == "trainer/demo"


def test_on_a_schedule_it_may_read_rayjobs_and_nothing_else(render: Render) -> None:
    made = render("kind=RayCronJob", "cron.schedule=@daily")
    assert made["Role/demo-submitter"]["rules"] == [
        {"apiGroups": ["ray.io"], "resources": ["rayjobs"], "verbs": ["get"]}
    ]
    pods = pod_templates(made["RayCronJob/demo"])
    assert {role for role, pod in pods.items() if token_volumes(pod)} == {"submitter"}
    given = environment(pods["submitter"])
    assert given["TRAINER_SCHEDULED_RAYJOB"] == "trainer/$(TRAINER_JOB)" and "TRAINER_RAYJOB" not in given
    named = [one.get("valueFrom") for one in pods["submitter"]["spec"]["containers"][0]["env"]]
    assert {"fieldRef": {"fieldPath": "metadata.labels['batch.kubernetes.io/job-name']"}} in named


def test_only_its_pod_has_the_token_and_imports_no_modules_of_the_users(render: Render) -> None:
    pods = pod_templates(render("autoscaling.enabled=true")["RayJob/demo"])
    found = {role: token_volumes(pod) for role, pod in pods.items() if token_volumes(pod)}
    assert found == {"head": ["autoscaler-token"], "submitter": ["api-token"]}
    for role, pod in pods.items():  # the autoscaler is no container of the template
        mounted = [one["name"] for each in pod["spec"]["containers"] for one in each["volumeMounts"]]
        assert not {*mounted} & {"autoscaler-token"} and ("api-token" in mounted) == (role == "submitter"), role
    (container,) = pods["submitter"]["spec"]["containers"]
    assert container["command"][:2] == ["python", "-P"] and "envFrom" not in container
    (source,) = [one for one in pods["submitter"]["spec"]["volumes"] if one["name"] == "api-token"]
    assert source["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"] <= 3600


@pytest.mark.parametrize("sets", WITHOUT.values(), ids=WITHOUT)
def test_where_it_has_none_nothing_of_it_is_made(render: Render, sets: tuple[str, ...]) -> None:
    made = render(*sets)
    assert not [name for name in made if name.endswith("-submitter")]
    run = next(thing for name, thing in made.items() if name.startswith("Ray"))
    for role, pod in pod_templates(run).items():
        assert not token_volumes(pod), role
    if submitter := pod_templates(run).get("submitter"):
        assert "TRAINER_RAYJOB" not in environment(submitter)
        assert submitter["spec"]["serviceAccountName"] == "demo-worker"


def test_without_policies_there_is_none_of_its_own(render: Render) -> None:
    assert not [name for name in render("networkPolicy.enabled=false") if name.startswith("NetworkPolicy/")]
