"""A pool of GPUs, which are made up: pods are scheduled by them, and no device is there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.kind import NAMESPACE, Cluster, Done, until
from tests.e2e.runs import MNIST, wait

pytestmark = pytest.mark.timeout(900)
Name = Callable[[str], str]
POOL = {"replicas": 1, "gpu": {"count": 2}, "nodeSelector": {"trainer/pool": "gpu"}}
SEES = (
    "import json, ray; ray.init(address='auto', logging_level='ERROR', log_to_driver=False); "
    "print(json.dumps(ray.cluster_resources().get('GPU')))"
)
TOLERATION = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}


@pytest.fixture(scope="module")
def node(cluster: Cluster) -> Iterator[str]:
    """The tainted node, with two made-up GPUs."""
    name = cluster.get("nodes", "-l", "trainer/pool=gpu")[0]["metadata"]["name"]
    gpus = [{"op": "add", "path": "/status/capacity/nvidia.com~1gpu", "value": "2"}]
    cluster.kubectl("patch", "node", name, "--subresource=status", "--type=json", "-p", json.dumps(gpus))
    node = ("get", "node", name, "-o", "jsonpath={.status.allocatable.nvidia\\.com/gpu}")
    until("allocatable GPUs", lambda: cluster.kubectl(*node) == "2", seconds=60)
    yield name
    taken = [{"op": "remove", "path": "/status/capacity/nvidia.com~1gpu"}]
    cluster.kubectl("patch", "node", name, "--subresource=status", "--type=json", "-p", json.dumps(taken))


@pytest.fixture
def values(tmp_path_factory: pytest.TempPathFactory) -> str:
    """kind's values with a GPU pool beside the CPU pool."""
    file = tmp_path_factory.mktemp("gpu") / "gpu.yaml"
    pools = {"cpu": {"replicas": 1}, "gpu": {**POOL, "tolerations": [TOLERATION]}}
    file.write_text(json.dumps({"pools": pools}))
    return str(file)


def submit(cluster: Cluster, run: str, values: str, *words: str) -> Done:
    file = f"{MNIST}/tune.yaml"
    given = ("submit", "tune", file, "data.init_args.source=digits", "tune.num_samples=2", "trainer.max_epochs=1")
    return cluster.trainer(*given, *words, "-f", "kind", "-f", values, "-n", NAMESPACE, "--name", run)


@pytest.mark.full
def test_trials_run_where_the_gpus_are(cluster: Cluster, node: str, name: Name, values: str) -> None:
    run = name("gpus")
    one = ('tune.resources_per_trial={"CPU": 0.5, "GPU": 1}', "scaling.use_gpu=false")  # Lightning on the CPU
    submit(cluster, run, values, *one).ok()

    def placed() -> dict[str, str]:
        pods = [pod for pod in cluster.pods(run, "worker") if pod["spec"].get("nodeName")]
        return {pod["metadata"]["labels"]["ray.io/group"]: pod["spec"]["nodeName"] for pod in pods}

    until("two placed pods", lambda: len(placed()) == 2, seconds=90)
    where = placed()
    assert where["gpu"] == node and where["cpu"] != node
    assert wait(cluster, run).code == 0
    assert all(trial["state"] in ("finished", "stopped") for trial in cluster.results(run)["trials"])
    pods = {pod["metadata"]["name"]: pod["metadata"]["labels"]["ray.io/group"] for pod in cluster.pods(run, "worker")}
    ran = {key.partition("/worker-")[2] for key in cluster.objects(run, "logs/") if "/worker-" in key}
    assert ran and {pods[name] for one in ran for name in pods if one.startswith(name)} == {"gpu"}
    head = cluster.pods(run, "head")[0]["metadata"]["name"]
    assert json.loads(cluster.kubectl("exec", head, "--", "python", "-c", SEES).splitlines()[-1]) == 2


def test_a_pod_without_gpus_is_not_put_there(cluster: Cluster, node: str) -> None:
    """The node's taint keeps away what a pool without GPUs is, even if its selector is the node's."""
    with cluster.pod("no-gpu", "gpu") as pod:

        def why() -> str:
            conditions = cluster.get("pod", pod)["status"].get("conditions", [])
            return next((one["message"] for one in conditions if one.get("reason") == "Unschedulable"), "")

        assert "untolerated taint" in until("verdict on the pod", why, seconds=30)


def test_more_gpus_than_there_are(cluster: Cluster, name: Name, values: str) -> None:
    done = submit(cluster, name("more-gpus"), values, 'scaling.resources_per_worker={"GPU": 3}')
    assert done.code == 2 and "3" in done.err and "2" in done.err and "GPU" in done.err


def test_doctor_counts_gpus(cluster: Cluster, node: str, values: str) -> None:
    found = cluster.trainer("doctor", "-f", "kind", "-f", values, "-n", NAMESPACE)
    assert "pool gpu requests 2 nvidia.com/gpu, eligible nodes (1) have 2" in found.out
    more = cluster.trainer("doctor", "-f", "kind", "-f", values, "--set", "pools.gpu.replicas=2", "-n", NAMESPACE)
    assert more.code == 1 and "requests 4 nvidia.com/gpu" in more.out


@pytest.mark.full
def test_use_gpu_without_a_device(cluster: Cluster, node: str, name: Name, values: str) -> None:
    run = name("no-device")
    submit(cluster, run, values, "scaling.use_gpu=true", "--set", "lifetime.backoffLimit=0").ok()
    assert wait(cluster, run).code == 1
    told = cluster.status(run)
    assert len([line for line in told.splitlines() if f"node {node} has no CUDA device" in line]) == 1, told
