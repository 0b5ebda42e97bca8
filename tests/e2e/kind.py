"""The kind cluster of the end-to-end tests: made, filled, used with a submitter's rights, deleted if it was ours."""

from __future__ import annotations

import base64
import json
import os
import re
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import boto3
import yaml
from pytest_kind import KindCluster

ROOT = Path(__file__).parents[2]
TRAINER = str(ROOT / ".venv" / "bin" / "trainer")
NAMESPACE, OPERATOR = "trainer", "kuberay-system"
USER = "alice"
BUCKET, PREFIX = "trainer", "runs"
RENEWED = ("events", "endpoints", "endpointslices", "leases")
DOCKER, KIND, KUBECTL, HELM = "docker", "kind", "kubectl", "helm"

Found = TypeVar("Found")


@dataclass(frozen=True)
class Cluster:
    """A cluster that is ready for runs.

    Args:
        admin, submitter: kubeconfig files: all rights, and those of k8s/rbac/submitter.yaml.
        seconds: what making it took, by step.
    """

    name: str
    kind: KindCluster
    admin: Path
    submitter: Path
    seconds: dict[str, float] = field(default_factory=dict)

    def kubectl(self, *words: str, check: bool = True, given: str | None = None, namespace: str = NAMESPACE) -> str:
        """As admin; what it printed."""
        where = ["-n", namespace] if namespace else []
        command = [KUBECTL, "--kubeconfig", str(self.admin), *where, *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=180, input=given)
        assert not check or done.returncode == 0, f"kubectl {' '.join(words)}: {done.stderr}"
        return done.stdout

    def get(self, kind: str, *words: str) -> Any:
        """As JSON; the items of a list."""
        found = json.loads(self.kubectl("get", kind, *words, "-o", "json"))
        return found.get("items", found)

    def pods(self, run: str, role: str = "") -> list[Any]:
        """Of a run, alive."""
        wanted = f"trainer/run={run}" + (f",trainer/role={role}" if role else "")
        found = self.get("pods", "-l", wanted)
        return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]

    def trainer(
        self, *words: str, cwd: Path | None = None, timeout: float = 60, admin: bool = False, program: str = TRAINER
    ) -> Done:
        """`trainer WORDS` with the submitter's rights."""
        command = [program, *words]
        began = time.monotonic()
        done = subprocess.run(
            command, cwd=cwd or ROOT, env=self.env(admin=admin), capture_output=True, text=True, timeout=timeout
        )
        return Done(words, done.returncode, done.stdout, done.stderr, time.monotonic() - began)

    def make(self, *words: str, timeout: float, admin: bool = True) -> str:
        """`make WORDS` against this cluster; what it printed."""
        command = ["make", "--no-print-directory", *words, f"CLUSTER={self.name}", f"NAMESPACE={NAMESPACE}"]
        pipe = subprocess.PIPE
        made = subprocess.Popen(
            command, cwd=ROOT, env=self.env(admin=admin), start_new_session=True, stdout=pipe, stderr=pipe, text=True
        )
        try:
            out, err = made.communicate(timeout=timeout)
        finally:
            if made.returncode is None:  # what it has started goes with it
                os.killpg(made.pid, signal.SIGKILL)
        assert made.returncode == 0, f"make {' '.join(words)}:\n{out[-4000:]}\n{err[-4000:]}"
        return out + err

    def env(self, *, admin: bool = False) -> dict[str, str]:
        """Without this machine's own storage, cluster and Ray, and without what a make around the tests was given."""
        dropped = ("AWS_", "TRAINER_", "RAY_", "KUBECONFIG", "PYTHONPATH", "ARGS", "MAKE", "MFLAGS")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(dropped)}
        return {**kept, "KUBECONFIG": str(self.admin if admin else self.submitter), "TRAINER_NAMESPACE": NAMESPACE}

    @contextmanager
    def pod(self, name: str, pool: str) -> Iterator[str]:
        """The name of a pod of the run's image that sleeps, belongs to no run, and selects the nodes of `pool`."""
        container = {
            "name": "main",
            "image": "trainer:dev",
            "imagePullPolicy": "Never",
            "command": ["sleep", "600"],
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
        spec = {
            "containers": [container],
            "nodeSelector": {"trainer/pool": pool},
            "terminationGracePeriodSeconds": 0,
            "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
        }
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
        self.kubectl("apply", "-f", "-", given=json.dumps(pod))
        try:
            yield name
        finally:
            self.kubectl("delete", "pod", name, "--wait=false")

    @contextmanager
    def quota(self, name: str, hard: str) -> Iterator[None]:
        """The namespace has at most so much, `what=count`."""
        self.kubectl("create", "quota", name, f"--hard={hard}")
        try:
            yield
        finally:
            self.kubectl("delete", "quota", name)

    @contextmanager
    def without_operator(self) -> Iterator[None]:
        """Nobody acts on a RayJob; afterwards the operator is back, and ready."""
        operator = "deployment/kuberay-operator"
        self.kubectl("scale", operator, "--replicas=0", namespace=OPERATOR)
        try:
            self.kubectl("wait", "pods", "--all", "--for=delete", "--timeout=60s", check=False, namespace=OPERATOR)
            assert not self.kubectl("get", "pods", "-o", "name", namespace=OPERATOR)
            yield
        finally:
            self.kubectl("scale", operator, "--replicas=1", namespace=OPERATOR)
            self.kubectl("rollout", "status", operator, "--timeout=120s", namespace=OPERATOR)

    def status(self, run: str) -> str:
        """What `trainer status` says of a run."""
        return self.trainer("status", run, "-n", NAMESPACE).out

    def results(self, run: str) -> Any:
        """From MinIO, from outside the cluster; None while the run has written nothing."""
        done = self.trainer("results", run, "-n", NAMESPACE, "--json")
        return json.loads(done.out) if done.code == 0 else None

    @contextmanager
    def minio(self) -> Iterator[int]:
        """A port of this machine that leads to MinIO. The one of pytest-kind takes 10 s, and may fail at their end."""
        with self.forward("minio", 9000, namespace="minio") as port:
            yield port

    @contextmanager
    def forward(self, service: str, port: int, *, namespace: str = NAMESPACE) -> Iterator[int]:
        """A port of this machine that leads to a Service's."""
        words = ("-n", namespace, "port-forward", f"service/{service}", f":{port}", "--address", "127.0.0.1")
        command = [KUBECTL, "--kubeconfig", str(self.admin), *words]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as forward:
            try:
                assert forward.stdout
                ready, _, _ = select.select([forward.stdout], [], [], 60)
                told = re.match(r"Forwarding from 127\.0\.0\.1:(\d+) ", forward.stdout.readline() if ready else "")
                assert told, f"kubectl port-forward to {service} did not begin within 60 s"
                yield int(told[1])
            finally:
                forward.kill()

    @contextmanager
    def bucket(self) -> Iterator[Any]:
        """A boto3 client with the runs' keys; the bucket is BUCKET, runs lie under PREFIX."""
        with self.minio_variables() as variables:
            yield boto3.session.Session().client(
                "s3",
                endpoint_url=variables["AWS_ENDPOINT_URL"],
                region_name=variables["AWS_REGION"],
                aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
                aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
            )

    @contextmanager
    def minio_variables(self) -> Iterator[dict[str, str]]:
        """The environment of a process of this machine that uses MinIO with the runs' keys."""
        secret = self.get("secret", "trainer-s3")
        keys = {key: decoded(secret, key) for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
        with self.minio() as port:
            yield {**keys, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_REGION": "us-east-1"}

    def stored(self, start: str = "") -> dict[str, bytes]:
        """The bucket's objects by key, but what a run that goes on has removed since they were listed."""
        found = {}
        with self.bucket() as s3:
            for key in keys(s3, start):
                with suppress(s3.exceptions.NoSuchKey):
                    found[key] = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return found

    def runs(self, start: str) -> list[str]:
        """The names of the runs in the storage that begin so."""
        with self.bucket() as s3:
            return sorted({key.split("/")[1] for key in keys(s3, f"{PREFIX}/{start}")})

    def forget(self, run: str) -> None:
        """Remove what a run of a fixed name has stored: of a session before, on a cluster that was kept."""
        with self.bucket() as s3:
            for key in keys(s3, f"{PREFIX}/{run}/"):
                s3.delete_object(Bucket=BUCKET, Key=key)

    def objects(self, run: str, folder: str = "") -> dict[str, bytes]:
        """What a run has stored, by key in its folder."""
        start = f"{PREFIX}/{run}/"
        return {key[len(start) :]: payload for key, payload in self.stored(start + folder).items()}

    def driver_log(self, run: str) -> str:
        """All attempts of the driver, from the storage."""
        parts = self.objects(run, "logs/driver/")
        return "".join(parts[key].decode() for key in sorted(parts))

    def settle(self, *, seconds: float = 120) -> None:
        """Wait for what is on its way out: of a test before, or of what was tried."""

        def settled() -> bool:
            found = [one["metadata"] for one in self.get(self.kinds)]
            there = {one["uid"] for one in found}
            owners = [[owner["uid"] for owner in one.get("ownerReferences", ())] for one in found]
            # Kubernetes marks what a deleted object owned a while after that object has gone.
            orphans = [uids for uids in owners if uids and not there.intersection(uids)]
            return not orphans and not [one for one in found if one.get("deletionTimestamp")]

        until("end of what is leaving", settled, seconds=seconds)

    @cached_property
    def kinds(self) -> str:
        """All that a namespace can hold, but events and what Kubernetes itself renews."""
        listed = self.kubectl("api-resources", "--namespaced", "--verbs=list", "-o", "name", namespace="").split()
        return ",".join(kind for kind in listed if kind.partition(".")[0] not in RENEWED)

    def names(self) -> set[str]:
        """All objects of the namespace."""
        return set(self.kubectl("get", self.kinds, "-o", "name", "--ignore-not-found").split())

    def cluster_of(self, run: str) -> str:
        """The RayCluster that a run has now."""
        return str(self.get("rayjob", run)["status"]["rayClusterName"])


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    words: Sequence[str]
    code: int
    out: str
    err: str
    seconds: float

    def ok(self) -> Done:
        assert self.code == 0, f"trainer {' '.join(self.words)} ended with {self.code}:\n{self.out}\n{self.err}"
        return self


def until(what: str, look: Callable[[], Found], *, seconds: float, every: float = 1.0) -> Found:
    """The first true answer; fails after so many seconds, naming what was waited for and the last answer."""
    end = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < end, f"no {what} within {seconds:.0f} s; last: {found!r}"
        time.sleep(every)


def missing() -> str:
    """What these tests need and this machine has not; "" if it has all."""
    for tool in (DOCKER, KIND, KUBECTL, HELM):
        if shutil.which(tool) is None:
            return f"needs {tool}: not on PATH"
    if subprocess.run([DOCKER, "info"], capture_output=True).returncode:
        return "needs docker: its daemon does not answer"
    return ""


def make_cluster(name: str, image: str | None) -> tuple[Cluster, bool]:
    """(the cluster, ready for runs; whether it was made here). One of this name that is there is used as it is."""
    kind_bin, kubectl_bin = (Path(str(shutil.which(tool))) for tool in (KIND, KUBECTL))
    cluster = KindCluster(name, image=image, kind_path=kind_bin, kubectl_path=kubectl_bin)
    there = name in subprocess.run([KIND, "get", "clusters"], capture_output=True, text=True).stdout.split()
    seconds: dict[str, float] = {}
    if there:
        export = [KIND, "export", "kubeconfig", "--name", name, "--kubeconfig", str(cluster.kubeconfig_path)]
        subprocess.run(export, check=True, capture_output=True)
    began = time.monotonic()
    cluster.create(config_file="k8s/kind.yaml")
    seconds["kind create"] = time.monotonic() - began
    admin = cluster.kubeconfig_path.absolute()
    made = Cluster(name, cluster, admin, admin.with_name("submitter"), seconds)
    # One CPU node and the GPU node have the image, 14 GB each, and the other CPU node is left out: 80 GB of disk hold
    # no more, and there are 2 cores for all of them.
    nodes = f"{name}-worker,{name}-worker3"
    try:
        for target in ("image", "image-smoke", "kind-up"):
            began = time.monotonic()
            told = made.make(target, f"KIND_NODES={nodes}", timeout=1500)
            seconds[f"make {target}"] = time.monotonic() - began
            if loaded := re.search(r"loaded onto .* in (\d+) s", told):
                seconds["of that make kind-load"] = float(loaded[1])
        made.kubectl("cordon", f"{name}-worker2", namespace="")
        made.kubectl("wait", "nodes", "--all", "--for=condition=Ready", "--timeout=120s")
        _make_submitter(made)
    except BaseException:
        if not there:
            cluster.delete()
        raise
    return made, not there


def _make_submitter(cluster: Cluster) -> None:
    """A user with the rights of k8s/rbac/submitter.yaml and no others: a ServiceAccount's token in a kubeconfig."""
    cluster.kubectl("create", "serviceaccount", USER, check=False)
    cluster.kubectl("apply", "-f", str(ROOT / "k8s" / "rbac" / "submitter.yaml"), namespace="")  # it names its own
    cluster.kubectl("apply", "-f", str(ROOT / "k8s" / "rbac" / "policy.yaml"), namespace="")
    # The file has one Role for each namespace it grants something in, and ClusterRoles for looks at the whole cluster.
    for document in yaml.safe_load_all((ROOT / "k8s" / "rbac" / "submitter.yaml").read_text()):
        if document and document["kind"] in ("Role", "ClusterRole"):
            _bind(cluster, document)
    token = cluster.kubectl("create", "token", USER, "--duration=4h").strip()
    config = yaml.safe_load(cluster.admin.read_text())
    config["users"] = [{"name": USER, "user": {"token": token}}]
    for context in config["contexts"]:
        context["context"] |= {"user": USER, "namespace": NAMESPACE}
    cluster.submitter.touch(0o600)
    cluster.submitter.write_text(yaml.safe_dump(config))


def _bind(cluster: Cluster, role: Any) -> None:
    meta = role["metadata"]
    kind = f"{role['kind']}Binding"
    binding: dict[str, Any] = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": f"{meta['name']}-{USER}"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role["kind"], "name": meta["name"]},
        "subjects": [{"kind": "ServiceAccount", "name": USER, "namespace": NAMESPACE}],
    }
    if role["kind"] == "Role":
        binding["metadata"]["namespace"] = meta.get("namespace", NAMESPACE)
    cluster.kubectl("apply", "-f", "-", given=json.dumps(binding), namespace="")


def keys(s3: Any, start: str) -> list[str]:
    """Of the objects that the bucket has now."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=start)
    return [one["Key"] for page in pages for one in page.get("Contents", ())]


def decoded(secret: Any, key: str) -> str:
    return base64.b64decode(secret["data"][key]).decode()
