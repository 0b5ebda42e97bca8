"""Bad input: one line with the remedy, in under 15 s, and the namespace as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.kind import NAMESPACE, ROOT, USER, Cluster, Done

pytestmark = pytest.mark.timeout(200)
Name = Callable[[str], str]
TUNE = "trainer_app/examples/mnist/tune.yaml"
LIMIT_S = 45.0  # none waits for what will not come


@pytest.fixture
def untouched(cluster: Cluster) -> Iterator[None]:
    cluster.settle()
    before = cluster.names()
    yield
    cluster.settle(seconds=30)
    assert cluster.names() == before


@pytest.fixture
def secrets(cluster: Cluster) -> Iterator[None]:
    """Secrets with other keys, and with one key missing, which the submitter may read: an admin's doing."""
    keys, names = "--from-literal=AWS_ACCESS_KEY_ID=trainer", ("wrong-keys", "half-a-key", "none-such")
    cluster.kubectl("create", "secret", "generic", "wrong-keys", keys, "--from-literal=AWS_SECRET_ACCESS_KEY=no")
    cluster.kubectl("create", "secret", "generic", "half-a-key", keys)
    named = [f"--resource-name={name}" for name in names]
    cluster.kubectl("create", "role", "bad-secrets", "--verb=get", "--resource=secrets", *named)
    who = f"--serviceaccount={NAMESPACE}:{USER}"
    cluster.kubectl("create", "rolebinding", "bad-secrets", "--role=bad-secrets", who)
    yield
    cluster.kubectl("delete", "secret/wrong-keys", "secret/half-a-key", "role/bad-secrets", "rolebinding/bad-secrets")


def refused(done: Done, *words: str) -> str:
    """The one line, which has all these words; it came in time."""
    assert done.code in (1, 2), done.out + done.err
    lines = [line for line in (done.out + done.err).splitlines() if line.startswith(("error:", "fail"))]
    assert len(lines) == 1 and "Traceback" not in done.err, done.out + done.err
    assert all(word in lines[0] for word in words), lines[0]
    assert done.seconds < LIMIT_S
    return lines[0]


def submit(cluster: Cluster, *words: str) -> Done:
    return cluster.trainer("submit", "tune", TUNE, "-f", "kind", "-n", NAMESPACE, "--name", "bad", *words)


@pytest.mark.usefixtures("secrets", "untouched")
@pytest.mark.parametrize(
    "words, told",
    [
        (("--set", "storage.existingSecret=wrong-keys"), ("wrong-keys", "correct them, name another Secret")),
        (("--set", "storage.existingSecret=half-a-key"), ("has no AWS_SECRET_ACCESS_KEY", "kubectl create secret")),
        (("--set", "storage.existingSecret=none-such"), ("there is no Secret none-such", "kubectl create secret")),
        (("--set", "storage.bucket=none-such"), ("s3://none-such/", "correct storage.bucket")),
        (("--set", "storage.endpoint=http://127.0.0.1:9"), ("does not answer from here", "--endpoint")),
        (("--image", "trainer"), ("has no tag",)),
        (("--set", "pools.cpu.replicas=0"), ("asks for",)),
        (("--code", "/nonexistent"), ("no such folder",)),
    ],
    ids=["wrong keys", "missing key", "no secret", "no bucket", "no endpoint", "no tag", "no room", "no code"],
)
def test_submit_refuses(cluster: Cluster, words: tuple[str, ...], told: tuple[str, ...]) -> None:
    refused(submit(cluster, *words), *told)


@pytest.mark.usefixtures("untouched")
def test_an_image_that_no_node_has(cluster: Cluster) -> None:
    words = ("doctor", "-f", "kind", "-n", NAMESPACE, "--in-cluster", "--image", "trainer:none-such")
    refused(cluster.trainer(*words), "ErrImageNeverPull", "make kind-load")


@pytest.mark.usefixtures("untouched")
def test_a_user_without_rights(cluster: Cluster, tmp_path: Path) -> None:
    """The default ServiceAccount of the namespace may nothing."""
    token = cluster.kubectl("create", "token", "default").strip()
    own = tmp_path / "kubeconfig"
    mine = cluster.submitter.read_text()
    line = next(line for line in mine.splitlines() if "token:" in line)
    own.write_text(mine.replace(line, f"{line.partition('token:')[0]}token: {token}"))
    nobody = Cluster(cluster.name, cluster.kind, cluster.admin, own)
    refused(submit(nobody), "forbidden", "k8s/rbac/submitter.yaml")
    asked = nobody.trainer("doctor", "-f", "kind", "-n", NAMESPACE)
    assert asked.code == 1 and asked.seconds < LIMIT_S
    assert "create, delete, get, list, patch, watch rayjobs.ray.io" in asked.out and "submitter.yaml" in asked.out


@pytest.mark.usefixtures("untouched")
def test_no_operator(cluster: Cluster) -> None:
    with cluster.without_operator():
        refused(cluster.trainer("doctor", "-f", "kind", "-n", NAMESPACE), "operator", "is not ready")


def test_no_kubeconfig_and_no_cluster(cluster: Cluster, tmp_path: Path) -> None:
    gone = Cluster(cluster.name, cluster.kind, cluster.admin, tmp_path / "nothing")
    refused(submit(gone), "no cluster is configured", "KUBECONFIG")
    config = cluster.submitter.read_text()
    address = next(line for line in config.splitlines() if "server:" in line)
    (tmp_path / "down").write_text(
        config.replace(address, f"{address.partition('server:')[0]}server: https://127.0.0.1:9")
    )
    down = Cluster(cluster.name, cluster.kind, cluster.admin, tmp_path / "down")
    refused(submit(down), "does not answer", "check that it is running")


def test_what_the_chart_refuses_by_rule(cluster: Cluster) -> None:
    """A run file with a local folder and no storage of the cluster's: the results would end with the pod."""
    words = ("submit", "tune", TUNE, "-n", NAMESPACE, "--name", "bad", "--set", "pools.cpu.replicas=2")
    refused(cluster.trainer(*words, cwd=ROOT), "storage")
