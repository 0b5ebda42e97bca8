"""What the chart renders for a run, on parsed objects."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chart.conftest import RUN_FILE, Rendered, environment, pod_templates
from trainer_app.run import cluster

pytestmark = pytest.mark.chart
Render = Callable[..., Rendered]
ROOT = Path(__file__).parents[2]


def test_a_run_is_these_objects(render: Render) -> None:
    assert set(render()) == {
        "ConfigMap/demo-run",
        "ServiceAccount/demo-head",
        "ServiceAccount/demo-submitter",
        "ServiceAccount/demo-worker",
        "Role/demo-submitter",
        "RoleBinding/demo-submitter",
        "NetworkPolicy/demo",
        "NetworkPolicy/demo-submitter",
        "PodDisruptionBudget/demo-head",
        "Service/demo-head",
        "RayJob/demo",
    }


def test_ray_is_the_locks_and_the_charts(render: Render) -> None:
    locked = re.search(r"^ray==(\S+)", (ROOT / "image/requirements.txt").read_text(), re.MULTILINE)
    assert locked and render()["RayJob/demo"]["spec"]["rayClusterSpec"]["rayVersion"] == locked[1]


@pytest.mark.parametrize(
    "run_file",
    [RUN_FILE, "a: 1.0\nb: 1e-05\nc: 9007199254740993\n", "t: '<&> \"ü\" \\t {{ .Values }}'\n", "x: |\n  a\n\n\n"],
)
def test_the_run_file_crosses_byte_for_byte(render: Render, run_file: str) -> None:
    made = render(run_file=run_file)["ConfigMap/demo-run"]
    assert made["data"]["run.yaml"] == run_file
    assert made["immutable"] is True


def test_no_secret_outside_a_secret(text: Callable[..., str]) -> None:
    assert "AWS_SECRET_ACCESS_KEY" not in text()


def test_pods_have_the_environment_of_a_local_run(render: Render) -> None:
    pods = pod_templates(render()["RayJob/demo"])
    for role in ("head", "cpu"):
        given = environment(pods[role])
        assert {key: given.get(key) for key in cluster.ENVIRONMENT} == cluster.ENVIRONMENT, role
        assert given["TRAINER_RUN"] == "demo" and given["TRAINER_STORAGE_URI"] == "s3://trainer/runs", role
        assert pods[role]["spec"]["containers"][0]["envFrom"] == [{"secretRef": {"name": "trainer-s3"}}], role


@pytest.mark.parametrize(
    "sets, expected",
    [
        ((), {"CPU": 2, "GPU": 0, "trial_driver": 1000}),
        (("pools.cpu.replicas=3",), {"CPU": 3, "GPU": 0, "trial_driver": 1000}),
        (("poolDefaults.resources.limits.cpu=1500m",), {"CPU": 4, "GPU": 0, "trial_driver": 1000}),
        (("pools.gpu.gpu.count=4", "pools.gpu.replicas=2"), {"CPU": 4, "GPU": 8, "trial_driver": 1000}),
        (("head.trialDrivers=7",), {"CPU": 2, "GPU": 0, "trial_driver": 7}),
    ],
)
def test_the_driver_is_told_what_the_pools_give(render: Render, sets: tuple[str], expected: dict[str, int]) -> None:
    head = pod_templates(render(*sets)["RayJob/demo"])["head"]
    assert json.loads(environment(head)["TRAINER_CLUSTER_RESOURCES"]) == expected


def test_the_head_outlives_a_drain(render: Render) -> None:
    made = render()
    spec = made["PodDisruptionBudget/demo-head"]["spec"]
    head = pod_templates(made["RayJob/demo"])["head"]["metadata"]["labels"]
    assert spec == {"minAvailable": 1, "selector": {"matchLabels": head}}


def test_how_it_ends(render: Render) -> None:
    spec = render()["RayJob/demo"]["spec"]
    assert spec["submissionMode"] == "K8sJobMode" and spec["backoffLimit"] == 3 and spec["jobId"] == "demo-1"
    assert spec["shutdownAfterJobFinishes"] is True and spec["ttlSecondsAfterFinished"] == 60
    assert "suspend" not in spec and "deletionStrategy" not in spec and "clusterSelector" not in spec


def test_a_run_that_is_not_stoppable_gives_its_workers_back_at_once(render: Render) -> None:
    spec = render("lifetime.stoppable=false")["RayJob/demo"]["spec"]
    assert "shutdownAfterJobFinishes" not in spec and "ttlSecondsAfterFinished" not in spec
    rules = spec["deletionStrategy"]["deletionRules"]
    seen = [(rule["policy"], *[v for k, v in rule["condition"].items() if k.startswith("job")]) for rule in rules]
    assert seen == [
        (policy, end) for end in ("SUCCEEDED", "FAILED", "Failed") for policy in ("DeleteWorkers", "DeleteCluster")
    ]
    assert [rule["condition"]["ttlSeconds"] for rule in rules] == [0, 60] * 3
    grown = render("lifetime.stoppable=false", "autoscaling.enabled=true")["RayJob/demo"]["spec"]
    assert {rule["policy"] for rule in grown["deletionStrategy"]["deletionRules"]} == {"DeleteCluster"}


def test_deadlines_of_ours_go_to_the_driver(render: Render) -> None:
    made = render("lifetime.totalDeadlineSeconds=7200", "lifetime.firstStepDeadlineSeconds=600")["RayJob/demo"]
    given = environment(pod_templates(made)["head"])
    assert (given["TRAINER_DEADLINE_S"], given["TRAINER_FIRST_STEP_DEADLINE_S"]) == ("7200", "600")
    assert environment(pod_templates(render()["RayJob/demo"])["head"])["TRAINER_DEADLINE_S"] == str(30 * 86400)
    unlimited = render("lifetime.totalDeadlineSeconds=null")["RayJob/demo"]
    assert "TRAINER_DEADLINE_S" not in environment(pod_templates(unlimited)["head"])


def test_code_of_the_users_own(render: Render) -> None:
    made = pod_templates(render(f"run.code={'ab' * 32}")["RayJob/demo"])
    assert {environment(made[role])["TRAINER_CODE"] for role in ("head", "cpu")} == {"ab" * 32}


def test_http_mode_has_no_submitter(render: Render) -> None:
    made = render("lifetime.submissionMode=HTTPMode")["RayJob/demo"]
    assert set(pod_templates(made)) == {"head", "cpu"} and made["spec"]["submissionMode"] == "HTTPMode"


def test_kueue_by_its_label(render: Render) -> None:
    made = render("queue.name=gpus", "lifetime.suspend=true", "managedBy=kueue.x-k8s.io/multikueue")["RayJob/demo"]
    assert made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    assert made["spec"]["suspend"] is True and made["spec"]["managedBy"] == "kueue.x-k8s.io/multikueue"


def test_without_a_launcher_the_same_file_is_the_same_submission(render: Render) -> None:
    names = [render("run.submission=", run_file=text)["RayJob/demo"]["spec"]["jobId"] for text in ("a: 1", "a: 1")]
    other = render("run.submission=", run_file="a: 2")["RayJob/demo"]["spec"]["jobId"]
    assert names[0] == names[1] != other
