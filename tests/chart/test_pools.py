"""Pools: their values over poolDefaults, GPUs, spot nodes, volumes, autoscaling."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.chart.conftest import Rendered, environment, pod_templates, ray_cluster

pytestmark = pytest.mark.chart
Render = Callable[..., Rendered]
GROWING = ("autoscaling.enabled=true", "pools.cpu.minReplicas=0", "pools.cpu.maxReplicas=4")
TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount"


def groups(made: Rendered) -> dict[str, Any]:
    return {group["groupName"]: group for group in ray_cluster(made["RayJob/demo"])["workerGroupSpecs"]}


def test_a_pool_goes_over_the_defaults(render: Render) -> None:
    found = groups(render("pools.gpu.gpu.count=2", "pools.gpu.nodeSelector.a=b"))
    gpu = found["gpu"]["template"]["spec"]
    assert gpu["containers"][0]["resources"]["limits"] == {"cpu": "1", "memory": "3Gi", "nvidia.com/gpu": 2}
    assert gpu["nodeSelector"] == {"a": "b"}
    assert found["cpu"]["template"]["spec"]["nodeSelector"] == {"trainer/pool": "cpu"}
    assert [found["cpu"][key] for key in ("minReplicas", "replicas", "maxReplicas")] == [2, 2, 2]


def test_nothing_and_no_go_over_the_defaults_too(render: Render) -> None:
    """Sprig's mergeOverwrite takes 0, false and "" for nothing to say."""
    made = render(
        "poolDefaults.replicas=3", "poolDefaults.spot.enabled=true", "poolDefaults.shmSize=1Gi",
        "pools.other.replicas=0", "pools.other.spot.enabled=false", "pools.other.shmSize=",
    )  # fmt: skip
    other = groups(made)["other"]
    assert other["maxReplicas"] == 0
    assert not [one for one in other["template"]["spec"]["volumes"] if one["name"] == "shm"]


def test_gpus_bring_their_taint(render: Render) -> None:
    found = groups(render("pools.gpu.gpu.count=1", "pools.gpu.gpu.type=amd.com/gpu"))
    taint = {"key": "amd.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    assert found["gpu"]["template"]["spec"]["tolerations"] == [taint]
    assert "tolerations" not in found["cpu"]["template"]["spec"]


def test_pods_are_asked_early_whether_they_are_ready(render: Render) -> None:
    """KubeRay would wait 10 s before it asks, and then ask every 5 s."""
    made = render()
    job, cluster = made["RayJob/demo"]["spec"], ray_cluster(made["RayJob/demo"])
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        probe = group["template"]["spec"]["containers"][0]["readinessProbe"]
        assert probe["httpGet"] == {"path": "/api/healthz", "port": 52365}
        assert probe["initialDelaySeconds"] <= 2 and probe["periodSeconds"] <= 2
    assert "readinessProbe" not in job["submitterPodTemplate"]["spec"]["containers"][0]


def test_a_spot_pool(render: Render) -> None:
    spot = ("pools.cpu.spot.nodeSelector.spot=yes", "pools.cpu.spot.tolerations[0].key=spot",
            "pools.cpu.spot.terminationGracePeriodSeconds=25")  # fmt: skip
    off = groups(render(*spot))["cpu"]["template"]["spec"]
    assert off["terminationGracePeriodSeconds"] == 60 and "tolerations" not in off
    on = groups(render(*spot, "pools.cpu.spot.enabled=true"))["cpu"]["template"]
    assert on["spec"]["nodeSelector"] == {"trainer/pool": "cpu", "spot": "yes"}
    assert on["spec"]["tolerations"] == [{"key": "spot"}]
    assert on["spec"]["terminationGracePeriodSeconds"] == 25
    # Ray drains for 30 s unless told: SIGKILL would come first
    assert environment(on)["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"] == "20"


def test_volumes_and_shared_memory(render: Render) -> None:
    pod = groups(
        render(
            "pools.cpu.shmSize=1Gi",
            "pools.cpu.volumes[0].name=data",
            "pools.cpu.volumes[0].persistentVolumeClaim.claimName=sets",
            "pools.cpu.volumeMounts[0].name=data",
            "pools.cpu.volumeMounts[0].mountPath=/data",
        )
    )["cpu"]["template"]["spec"]
    volumes = {one["name"]: one for one in pod["volumes"]}
    assert volumes["data"] == {"name": "data", "persistentVolumeClaim": {"claimName": "sets"}}
    assert volumes["shm"] == {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}}
    mounts = {one["name"]: one["mountPath"] for one in pod["containers"][0]["volumeMounts"]}
    assert mounts == {"tmp": "/tmp", "work": "/work", "shm": "/dev/shm", "data": "/data"}


def test_each_ray_pod_has_a_folder_to_work_in_with_a_limit(render: Render) -> None:
    pods = pod_templates(render("workingFolder.sizeLimit=3Gi")["RayJob/demo"])
    for role, pod in pods.items():
        volumes = [one for one in pod["spec"]["volumes"] if one["name"] == "work"]
        mounts = [one for one in pod["spec"]["containers"][0]["volumeMounts"] if one["name"] == "work"]
        if role == "submitter":  # runs none of the user's code
            assert not volumes and not mounts
            continue
        assert volumes == [{"name": "work", "emptyDir": {"sizeLimit": "3Gi"}}], role
        assert mounts == [{"name": "work", "mountPath": environment(pod)["TRAINER_WORK"]}], role


@pytest.mark.parametrize("volume", ["hostPath.path=/", "nfs.server=x", "gcePersistentDisk.pdName=x"])
def test_volumes_that_restricted_forbids(text: Callable[..., str], volume: str) -> None:
    from trainer_app.errors import InputError

    with pytest.raises(InputError, match=r"^values: .* is not allowed"):
        text("pools.cpu.volumes[0].name=data", f"pools.cpu.volumes[0].{volume}")


def test_a_growing_pool(render: Render) -> None:
    made = render(*GROWING, "pools.cpu.idleTimeoutSeconds=7")
    spec = ray_cluster(made["RayJob/demo"])
    assert spec["enableInTreeAutoscaling"] is True
    assert spec["autoscalerOptions"]["version"] == "v2" and spec["autoscalerOptions"]["idleTimeoutSeconds"] == 60
    cpu = groups(made)["cpu"]
    assert [cpu[key] for key in ("minReplicas", "replicas", "maxReplicas", "idleTimeoutSeconds")] == [0, 0, 4, 7]
    driver = environment(pod_templates(made["RayJob/demo"])["head"])
    assert json.loads(driver["TRAINER_CLUSTER_RESOURCES"])["CPU"] == 4, "what it can be, not what it is at the start"


def test_the_token_is_the_autoscalers_alone(render: Render) -> None:
    """And the submitter's: test_api_access.py."""
    made = render(*GROWING, "submitter.apiAccess=false")["RayJob/demo"]
    options = ray_cluster(made)["autoscalerOptions"]
    mounts = {one["mountPath"]: one["name"] for one in options["volumeMounts"]}
    assert set(mounts) == {"/tmp", TOKEN}
    pods = pod_templates(made)
    sources = {one["name"]: one for one in pods["head"]["spec"]["volumes"]}[mounts[TOKEN]]["projected"]["sources"]
    assert [next(iter(source)) for source in sources] == ["serviceAccountToken", "configMap", "downwardAPI"]
    for role, pod in pods.items():
        assert pod["spec"]["automountServiceAccountToken"] is False, role
        for container in pod["spec"]["containers"]:
            assert mounts[TOKEN] not in [one["name"] for one in container["volumeMounts"]], role
        if role != "head":
            assert not [one for one in pod["spec"]["volumes"] if "projected" in one], role


def test_without_autoscaling_there_is_no_token_at_all(text: Callable[..., str]) -> None:
    made = text("submitter.apiAccess=false")
    assert "serviceAccountToken:" not in made and "kubernetes.io/serviceaccount" not in made
