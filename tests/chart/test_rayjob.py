"""What the chart renders for a run, on parsed objects."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.conftest import RUN_FILE, Rendered, pod_templates
from trainer_app import cluster
from trainer_app.errors import InputError

pytestmark = pytest.mark.chart
Render = Callable[..., Rendered]
ROOT = Path(__file__).parents[2]


def test_a_run_is_these_objects(render: Render) -> None:
    assert set(render()) == {
        "ConfigMap/demo-run",
        "ServiceAccount/demo-head",
        "ServiceAccount/demo-worker",
        "NetworkPolicy/demo",
        "PodDisruptionBudget/demo-head",
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


def test_every_pod_passes_the_restricted_profile(render: Render) -> None:
    for role, pod in pod_templates(render()["RayJob/demo"]).items():
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True, role
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, role
        assert spec["automountServiceAccountToken"] is False, role
        for container in spec["containers"]:
            safe = container["securityContext"]
            assert safe["allowPrivilegeEscalation"] is False and safe["readOnlyRootFilesystem"] is True, role
            assert safe["capabilities"] == {"drop": ["ALL"]}, role
            assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"], role


def test_ray_pods_leave_kuberays_labels_alone(render: Render) -> None:
    for role, pod in pod_templates(render()["RayJob/demo"]).items():
        assert not [key for key in pod["metadata"]["labels"] if key.startswith("app.kubernetes.io/")], role


def test_no_secret_outside_a_secret(text: Callable[..., str]) -> None:
    assert "AWS_SECRET_ACCESS_KEY" not in text()


def environment(pod: Any) -> dict[str, str]:
    return {one["name"]: one["value"] for one in pod["spec"]["containers"][0]["env"]}


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


def test_the_network_is_closed(render: Render) -> None:
    made = render()
    spec = made["NetworkPolicy/demo"]["spec"]
    run = {"podSelector": {"matchLabels": {"trainer/run": "demo"}}}
    assert spec["podSelector"] == run["podSelector"] and spec["policyTypes"] == ["Ingress", "Egress"]
    assert all(
        pod["metadata"]["labels"]["trainer/run"] == "demo" for pod in pod_templates(made["RayJob/demo"]).values()
    )
    operator = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kuberay-system"}}}
    assert spec["ingress"] == [{"from": [run]}, {"from": [operator], "ports": [{"port": 8265, "protocol": "TCP"}]}]
    assert spec["egress"][0] == {"to": [run]}
    assert [one.get("ports", [{}])[0].get("port") for one in spec["egress"]] == [None, 53, 9000]


def test_the_head_outlives_a_drain(render: Render) -> None:
    made = render()
    spec = made["PodDisruptionBudget/demo-head"]["spec"]
    head = pod_templates(made["RayJob/demo"])["head"]["metadata"]["labels"]
    assert spec == {"minAvailable": 1, "selector": {"matchLabels": head}}


def test_a_pool_goes_over_the_defaults(render: Render) -> None:
    cluster_spec = render("pools.gpu.gpu.count=2", "pools.gpu.nodeSelector.a=b")["RayJob/demo"]["spec"][
        "rayClusterSpec"
    ]
    groups = {group["groupName"]: group for group in cluster_spec["workerGroupSpecs"]}
    gpu = groups["gpu"]["template"]["spec"]
    assert gpu["containers"][0]["resources"]["limits"] == {"cpu": "1", "memory": "3Gi", "nvidia.com/gpu": 2}
    assert gpu["nodeSelector"] == {"a": "b"}
    assert groups["cpu"]["template"]["spec"]["nodeSelector"] == {"trainer/pool": "cpu"}
    assert (groups["cpu"]["minReplicas"], groups["cpu"]["replicas"], groups["cpu"]["maxReplicas"]) == (2, 2, 2)


@pytest.mark.parametrize(
    "sets, more, words",
    [
        ((), {"run_file": "scaling: {num_workers: 3}"}, r"asks for 3 CPUs at once .* at most 2"),
        ((), {"run_file": "scaling: {use_gpu: true}"}, r"asks for 1 GPUs at once .* at most 0"),
        (
            ("pools.cpu.gpu.count=1",),
            {"run_file": "scaling: {num_workers: 2, resources_per_worker: {GPU: 2}}"},
            r"asks for 4 GPUs at once .* at most 2",
        ),
        (("storage.bucket=",), {}, r'keeps its results in "runs".* set storage.bucket'),
        ((), {"run_file": ""}, "run.file is empty"),
        ((), {"run_file": "a: [1"}, "run.file is no YAML"),
        ((), {"run_file": "a: " + "x" * 900_000}, "at most 900000"),
        ((), {"name": "n" * 45}, "45 characters; at most 44"),
        ((), {"name": "1st"}, "begins with a letter"),
    ],
)
def test_refused_with_both_numbers(text: Callable[..., str], sets: tuple[str], more: Any, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        text(*sets, **more)
    assert "\n" not in str(caught.value) and "rayjob.yaml" not in str(caught.value)


def test_a_storage_of_the_run_files_own(render: Render) -> None:
    made = render("storage.bucket=", run_file="storage: {uri: s3://mine/x}")["RayJob/demo"]
    assert made["metadata"]["annotations"]["trainer/storage-uri"] == "s3://mine/x"
    assert "TRAINER_STORAGE_URI" not in environment(pod_templates(made)["head"])


def leaves(values: Any, prefix: str = "") -> dict[str, Any]:
    """{dotted key: default} of values.yaml; an empty block counts as one."""
    if not isinstance(values, dict) or not values:
        return {prefix: values}
    inner = (leaves(value, f"{prefix}.{key}" if prefix else key) for key, value in values.items())
    return {key: value for found in inner for key, value in found.items()}


DEFAULTS = leaves(yaml.safe_load((ROOT / "helm/trainer/values.yaml").read_text()))
# Another value of a leaf, by its key or the end of it, where "other" or 7 won't do.
OTHER = {
    "image.pullPolicy": "=Always",
    "image.pullSecrets": "={one}",
    "storage.endpoint": "=http://elsewhere:1",
    "gpu.type": "=amd.com/gpu",
    "nodeSelector": ".k=v",
    "annotations": ".k=v",
    "affinity": ".nodeAffinity.k=v",
    "tolerations": "[0].key=k",
    "topologySpreadConstraints": "[0].topologyKey=k",
    "env": "[0].name=K",
    "head.disruptionBudget": "=false",
    "networkPolicy.enabled": "=false",
    "networkPolicy.storage.to": "[0].podSelector.matchLabels.k=v",
    "cpu": "=7",
    "memory": "=7Gi",
}

# Without them other values show nothing.
BESIDE = ("storage.bucket=mine",)


def other(key: str) -> str:
    """A `--set` that changes the leaf."""
    end = next((OTHER[name] for name in (key, *OTHER) if name in OTHER and f".{key}".endswith(f".{name}")), None)
    return key + (end or ("=other" if isinstance(DEFAULTS[key], str) else "=7"))


@pytest.mark.parametrize("key", [key for key in DEFAULTS if not key.startswith("run.") and key != "pools.cpu"])
def test_every_value_is_used(text: Callable[..., str], key: str) -> None:
    more = [*BESIDE, *(["pools.cpu.gpu.count=1"] if key.endswith("gpu.type") else [])]
    assert text(*more, other(key), values=()) != text(*more, values=())


@pytest.mark.parametrize(
    "bad",
    [
        "x=1",
        "image.x=1",
        "run.x=1",
        "storage.x=1",
        "head.x=1",
        "poolDefaults.x=1",
        "pools.cpu.x=1",
        "pools.cpu.gpu.x=1",
        "pools.cpu.resources.x=1",
        "pools.cpu.tolerations[0].x=1",
        "pools.cpu.env[0].x=1",
        "submitter.x=1",
        "lifetime.x=1",
        "networkPolicy.x=1",
        "networkPolicy.storage.x=1",
        "networkPolicy.storage.to[0].x=1",
        "pools.CPU.replicas=1",
        "pools.cpu.replicas=-1",
        "pools.cpu.replicas=a",
        "image.pullPolicy=Sometimes",
        "storage.endpoint=http://key:secret@host",
        "storage.prefix=/runs",
        "head.resources.limits.memory=lots",
        "lifetime.ttlSecondsAfterFinished=-1",
    ],
)
def test_the_schema_refuses(text: Callable[..., str], bad: str) -> None:
    with pytest.raises(InputError, match="schema"):
        text(bad)
