"""A run's pods: who reaches them, what they reach, and where the keys are not."""

from __future__ import annotations

import json
import textwrap
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.e2e.kind import NAMESPACE, PREFIX, RENEWED, Cluster, decoded, until
from tests.e2e.runs import helm, submit_paced, until_epochs
from tests.local.scan import holds

pytestmark = pytest.mark.timeout(900)
Name = Callable[[str], str]
PORTS = {"dashboard": 8265, "GCS": 6379, "client": 10001}
# Whether a TCP connection to each port comes about within 3 s.
CONNECT = textwrap.dedent(
    """
    import json, socket, sys
    def opens(port):
        try:
            socket.create_connection((sys.argv[1], int(port)), 3).close()
        except OSError:
            return False
        return True
    print(json.dumps([opens(port) for port in sys.argv[2:]]))
    """
)
# Of all processes that are still there when they are read.
CMDLINES = textwrap.dedent(
    """
    import contextlib, glob
    for file in glob.glob("/proc/[0-9]*/cmdline"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            print(open(file, "rb").read())
    """
)


@pytest.fixture(scope="module")
def running(cluster: Cluster) -> Iterator[str]:
    """A run that goes on for as long as these tests look at it."""
    run = f"safe-{int(time.time()) % 100000}"
    submit_paced(cluster, run)
    until_epochs(cluster, run, 1)
    yield run
    cluster.trainer("delete", run, "-n", NAMESPACE, "--grace", "0", timeout=400)


def python_in(cluster: Cluster, pod: str, code: str, *words: str) -> str:
    return cluster.kubectl("exec", pod, "--", "python", "-c", code, *words)


@pytest.fixture
def stranger(cluster: Cluster) -> Iterator[str]:
    """A pod of the namespace that belongs to no run."""
    with cluster.pod("stranger", "cpu") as pod:
        cluster.kubectl("wait", f"pod/{pod}", "--for=condition=Ready", "--timeout=60s")
        yield pod


def test_only_the_runs_pods_reach_the_head(cluster: Cluster, running: str, stranger: str) -> None:
    head = cluster.pods(running, "head")[0]["status"]["podIP"]
    worker = cluster.pods(running, "worker")[0]["metadata"]["name"]
    ports = [str(port) for port in PORTS.values()]
    inside = json.loads(python_in(cluster, worker, CONNECT, head, *ports))
    assert dict(zip(PORTS, inside, strict=True)) == dict.fromkeys(PORTS, True)
    time.sleep(3)  # a policy reaches a new pod a second after it has an address
    outside = json.loads(python_in(cluster, stranger, CONNECT, head, *ports))
    assert dict(zip(PORTS, outside, strict=True)) == dict.fromkeys(PORTS, False)


def test_without_the_token_the_dashboard_gives_nothing(cluster: Cluster, running: str) -> None:
    head = cluster.pods(running, "head")[0]["status"]["podIP"]
    worker = cluster.pods(running, "worker")[0]["metadata"]["name"]
    ask = (
        "import sys, urllib.request, urllib.error\n"
        "try: urllib.request.urlopen(f'http://{sys.argv[1]}:8265/api/jobs/', timeout=5); print(200)\n"
        "except urllib.error.HTTPError as e: print(e.code)"
    )
    assert python_in(cluster, worker, ask, head).strip() == "401"


def test_a_worker_gets_nothing_from_the_api_server(cluster: Cluster, running: str, stranger: str) -> None:
    worker = cluster.pods(running, "worker")[0]
    assert all("serviceaccount" not in m["mountPath"] for c in worker["spec"]["containers"] for m in c["volumeMounts"])
    api = cluster.get("service", "kubernetes", "-n", "default")["spec"]["clusterIP"]
    assert json.loads(python_in(cluster, stranger, CONNECT, api, "443")) == [True]
    assert json.loads(python_in(cluster, worker["metadata"]["name"], CONNECT, api, "443")) == [False]


def test_the_submitter_may_patch_its_rayjob_and_nothing_else(cluster: Cluster, running: str) -> None:
    account = f"system:serviceaccount:{NAMESPACE}:{running}-submitter"

    def may(*words: str) -> bool:
        return cluster.kubectl("auth", "can-i", *words, "--as", account, check=False).strip() == "yes"

    assert may("patch", f"rayjob/{running}")
    others = (("patch", "rayjob/other"), ("get", f"rayjob/{running}"), ("delete", f"rayjob/{running}"))
    for words in (*others, ("list", "pods"), ("create", "pods"), ("get", "secrets"), ("create", "roles")):
        assert not may(*words), words
    notes = cluster.get("rayjob", running)["metadata"]["annotations"]
    assert notes["trainer/progress"].endswith("/300 epochs") and int(notes["trainer/epoch"]) >= 1
    assert notes["trainer/eta"].endswith("Z")


def test_the_keys_are_in_secrets_alone(cluster: Cluster, running: str) -> None:
    canary = decoded(cluster.get("secret", "trainer-s3"), "AWS_SECRET_ACCESS_KEY")
    assert len(canary) > 20
    kinds = ",".join(kind for kind in (*cluster.kinds.split(","), *RENEWED) if kind != "secrets")
    there = cluster.kubectl("get", kinds, "-o", "yaml", "--ignore-not-found")
    assert not holds(there.encode(), canary) and running in there
    for pod in cluster.pods(running):
        name = pod["metadata"]["name"]
        assert not holds(cluster.kubectl("logs", name, "--all-containers").encode(), canary)
        told = python_in(cluster, name, CMDLINES)
        assert not holds(told.encode(), canary) and len(told.splitlines()) > 1  # others than the one that reads
    stored = cluster.stored()
    assert any(key.startswith(f"{PREFIX}/{running}/") for key in stored)
    assert [key for key, payload in stored.items() if holds(payload, canary)] == []


def test_every_pod_was_admitted_to_a_restricted_namespace(cluster: Cluster, running: str) -> None:
    labels = cluster.get("namespace", NAMESPACE)["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert {pod["metadata"]["labels"]["trainer/role"] for pod in cluster.pods(running)} == {
        "head",
        "worker",
        "submitter",
    }


def test_workers_logs_are_in_the_storage_while_it_runs(cluster: Cluster, running: str) -> None:
    def found() -> Any:
        return [key for key in cluster.objects(running, "logs/") if key.startswith("logs/worker-")]

    until("log of a worker in the storage", found, seconds=60, every=5)
    assert "==> worker-" in cluster.trainer("logs", running, "-n", NAMESPACE, "--workers").ok().out


@pytest.fixture
def pages(cluster: Cluster) -> Iterator[str]:
    """`trainer ui` as the chart installs it, with keys that may only read."""
    release = "pages"
    sets = ("kind=UI", "ui.enabled=true", "ui.existingSecret=trainer-s3-reader", "ui.nodeSelector.trainer/pool=cpu")
    words = [word for one in sets for word in ("--set", one)]
    helm(cluster, "install", release, "helm/trainer", "-f", "helm/values/kind.yaml", *words)
    cluster.kubectl("rollout", "status", f"deployment/{release}-ui", "--timeout=170s")
    yield release
    helm(cluster, "uninstall", release, "--wait")


@pytest.mark.full
def test_the_pages_show_a_run_while_it_goes_on(cluster: Cluster, running: str, stranger: str, pages: str) -> None:
    pod = next(one for one in cluster.get("pods") if one["metadata"]["name"].startswith(f"{pages}-ui-"))
    with cluster.forward(f"{pages}-ui", 80) as port:

        def ask(path: str) -> Any:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
                return json.loads(answer.read())

        def row() -> Any:
            return next((one for one in ask(f"/api/runs?text={running}")["rows"] if one["name"] == running), None)

        until("the run in the list", lambda: row() is not None, seconds=60)
        assert row()["state"] == "running"
        first = len(ask(f"/api/report?run={running}")["runs"][0]["fits"][0]["checkpoints"])
        assert first >= 1
        epochs = ask(f"/api/report?run={running}")["runs"][0]["done"]
        until("a further epoch", lambda: ask(f"/api/report?run={running}")["runs"][0]["done"] > epochs, seconds=120)
    name = pod["metadata"]["name"]
    assert json.loads(python_in(cluster, name, CONNECT, "127.0.0.1", "8777")) == [True]
    time.sleep(3)
    assert json.loads(python_in(cluster, stranger, CONNECT, pod["status"]["podIP"], "8777")) == [False]
    write = (
        "from trainer_app.storage import open_store\n"
        "try: open_store('s3://trainer/runs').put('x', b''); print('written')\n"
        "except Exception as e: print(type(e).__name__)"
    )
    assert python_in(cluster, name, write).strip() == "AccessDeniedError"
    api = cluster.get("service", "kubernetes", "-n", "default")["spec"]["clusterIP"]
    assert json.loads(python_in(cluster, name, CONNECT, api, "443")) == [False]
    assert pod["spec"]["automountServiceAccountToken"] is False
