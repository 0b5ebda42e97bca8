"""RayCluster and RayCronJob, and a RayJob on a cluster of another release."""

import json
from collections.abc import Callable

import pytest
import yaml

from tests.chart.conftest import RUN_FILE, Rendered, environment, pod_templates, ray_cluster

pytestmark = pytest.mark.chart
Render = Callable[..., Rendered]
CRON = ("kind=RayCronJob", "cron.schedule=@daily")


def test_a_cluster_that_stays(render: Render) -> None:
    made = render("kind=RayCluster")
    assert set(made) == {
        "ServiceAccount/demo-head",
        "ServiceAccount/demo-worker",
        "NetworkPolicy/demo",
        "PodDisruptionBudget/demo-head",
        "Service/demo-head",
        "RayCluster/demo",
    }
    pods = pod_templates(made["RayCluster/demo"])
    assert set(pods) == {"head", "cpu"}
    for role, pod in pods.items():
        given = environment(pod)
        assert given["TRAINER_STORAGE_URI"] == "s3://trainer/runs" and "TRAINER_CLUSTER_RESOURCES" in given, role
        assert not {"TRAINER_RUN", "TRAINER_SUBMISSION"} & set(given), role
    assert "trainer/task" not in made["RayCluster/demo"]["metadata"]["annotations"]


def test_its_pods_are_a_runs(render: Render) -> None:
    """One template for all: a RayCluster's spec is that of a RayJob, but for the run itself."""
    own, run = (
        ray_cluster(render(*sets, run_file=file)[name])
        for sets, file, name in ((("kind=RayCluster",), "", "RayCluster/demo"), ((), RUN_FILE, "RayJob/demo"))
    )
    for spec in (own, run):
        spec["headGroupSpec"]["template"]["spec"]["volumes"][:] = []
        for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]:
            container = group["template"]["spec"]["containers"][0]
            container["env"] = [
                one
                for one in container["env"]
                if one["name"] not in ("TRAINER_RUN", "TRAINER_SUBMISSION", "TRAINER_DEADLINE_S")
            ]
            container["volumeMounts"] = [one for one in container["volumeMounts"] if one["name"] != "run"]
    assert own == run


def test_a_run_on_that_cluster(render: Render) -> None:
    made = render("clusterSelector=big", "lifetime.totalDeadlineSeconds=99")
    reports = {f"{kind}/demo-submitter" for kind in ("ServiceAccount", "Role", "RoleBinding", "NetworkPolicy")}
    assert set(made) == {"ServiceAccount/demo-worker", "NetworkPolicy/demo", "RayJob/demo", *reports}
    spec = made["RayJob/demo"]["spec"]
    assert spec["clusterSelector"] == {"ray.io/cluster": "big"}
    of_a_cluster = {"rayClusterSpec", "backoffLimit", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished"}
    assert not (of_a_cluster | {"deletionStrategy"}) & set(spec)
    given = {
        "TRAINER_RUN": "demo",
        "TRAINER_SUBMISSION": "demo-1",
        "TRAINER_DEADLINE_S": "99",
        "TRAINER_STORAGE_URI": "s3://trainer/runs",
        "TRAINER_RUN_FILE": RUN_FILE,
    }
    assert yaml.safe_load(spec["runtimeEnvYAML"]) == {"env_vars": given}
    submitter = pod_templates(made["RayJob/demo"])["submitter"]
    assert json.loads(environment(submitter)["TRAINER_RUNTIME_ENV"]) == {"env_vars": given}
    assert submitter["spec"]["containers"][0]["args"] == spec["entrypoint"].split()
    assert spec["entrypoint"] == "python -m trainer_app.pod.run_file train --log -"


def test_that_cluster_lets_the_run_in_and_the_run_goes_there_only(render: Render) -> None:
    there = render("kind=RayCluster", name="big")["NetworkPolicy/big"]["spec"]
    selector = {"podSelector": {"matchLabels": {"trainer/cluster": "big"}}}
    assert {"from": [selector], "ports": [{"port": 8265, "protocol": "TCP"}]} in there["ingress"]
    made = render("clusterSelector=big")
    labels = pod_templates(made["RayJob/demo"])["submitter"]["metadata"]["labels"]
    assert labels["trainer/cluster"] == "big"
    assert {"podSelector": {"matchLabels": {"trainer/run": "big"}}} in made["NetworkPolicy/demo"]["spec"]["egress"][0][
        "to"
    ]
    assert not [rule for rule in render()["NetworkPolicy/demo"]["spec"]["ingress"] if selector in rule["from"]]


def test_each_trigger_makes_a_run(render: Render) -> None:
    made = render(*CRON)
    assert "Service/demo-head" not in made, "KubeRay names the runs: one Service for all of them would mix them"
    cron = made["RayCronJob/demo"]["spec"]
    assert cron["schedule"] == "@daily" and cron["suspend"] is False
    job = cron["jobTemplate"]
    assert "jobId" not in job and job["backoffLimit"] == 3 and job["shutdownAfterJobFinishes"] is True
    for role in ("head", "cpu"):
        given = environment(pod_templates(made["RayCronJob/demo"])[role])
        assert given["TRAINER_RUN_FROM_CLUSTER"] == "1", role
        assert not {"TRAINER_RUN", "TRAINER_SUBMISSION"} & set(given), role
        assert given["TRAINER_CRON_SCHEDULE"] == "trainer/demo @daily", role
    mounted = next(
        one for one in job["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["volumes"] if one["name"] == "run"
    )
    config = made[f"ConfigMap/{mounted['configMap']['name']}"]
    assert config["data"]["run.yaml"] == RUN_FILE and config["immutable"] is True
    assert config["metadata"]["name"] not in str(render(*CRON, run_file="a: 2")), (
        "an upgrade can't write into an immutable one"
    )
    env = job["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["env"]
    (cluster_ca,) = [one["valueFrom"] for one in env if one["name"] == "TRAINER_CLUSTER_CA"]
    assert cluster_ca == {"configMapKeyRef": {"name": "kube-root-ca.crt", "key": "ca.crt", "optional": True}}
    assert "TRAINER_CRON_SCHEDULE" not in str(render()), "a submitted run is not scheduled"
    one = dict(render()["RayJob/demo"]["spec"])
    assert set(one) - set(job) == {"jobId"} and set(job) <= set(one)
