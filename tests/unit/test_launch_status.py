"""Phases, reasons and recoveries out of what the API server says: pure functions on parsed objects."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from trainer_app.launch import doctor_gpus, doctor_pod, follow, pods, rayjobs, rights
from trainer_app.launch.finding import Finding
from trainer_app.launch.kube import Kube
from trainer_app.launch.status import RunStatus, format_progress, run_phase
from trainer_app.records import AttemptRecord, RunRecord

pytestmark = pytest.mark.unit
NOW = "2026-01-01T00:00:00Z"


def job(status: str = "", *, suspend: bool = False, queue: str = "", **more: Any) -> dict[str, Any]:
    labels = {"kueue.x-k8s.io/queue-name": queue} if queue else {}
    meta = {"name": "demo", "labels": labels, "annotations": {"trainer/task": "tune"}, "creationTimestamp": NOW}
    spec = {"suspend": suspend, "backoffLimit": 3, "shutdownAfterJobFinishes": True}
    return {"metadata": meta, "spec": spec, "status": {"jobDeploymentStatus": status, **more}}


def pod(name: str, *states: dict[str, Any], node: str = "n1", ready: bool = False, phase: str = "Pending") -> Any:
    conditions = [{"type": "Ready", "status": str(ready)}]
    status = {"phase": phase, "containerStatuses": [{"state": state} for state in states], "conditions": conditions}
    return {"metadata": {"name": name}, "spec": {"nodeName": node}, "status": status}


PENDING = pod("a", node="")
PULLING = pod("b", {"waiting": {"reason": "ContainerCreating"}})
STARTING = pod("c", {"running": {}})
ENDED = pod("e", phase="Succeeded")
RUNNING = pod("d", {"running": {}}, ready=True, phase="Running")


@pytest.mark.parametrize(
    "one, words",
    [(PENDING, "pending"), (PULLING, "pulling"), (STARTING, "starting"), (RUNNING, "running"), (ENDED, "succeeded")],
)
def test_phase_of_a_pod(one: Any, words: str) -> None:
    assert pods.phase(one) == words


@pytest.mark.parametrize(
    "status, found, words",
    [
        (job(), [], "submitted"),
        (job("Initializing"), [], "creating pods"),
        (job("Initializing"), [RUNNING, PENDING], "waiting for nodes (1 running, 1 pending)"),
        (job("Initializing"), [RUNNING, PULLING], "pulling (1 running, 1 pulling)"),
        (job("Initializing"), [RUNNING, STARTING], "starting (1 running, 1 starting)"),
        (job("Running"), [RUNNING], "running"),
        (job("Retrying", failed=1), [], "retrying"),
        (job("Suspending"), [], "stopping"),
        (job("Suspended", suspend=True), [], "suspended"),
        (job("Suspended", suspend=True, queue="gpus"), [], "queued"),
        (job("Complete", jobStatus="SUCCEEDED"), [], "succeeded"),
        (job("Complete", jobStatus="STOPPED"), [], "stopped"),
        (job("Failed", jobStatus="FAILED"), [], "failed"),
        (job("ValidationFailed"), [], "failed"),
    ],
)
def test_phase_of_a_run(status: Any, found: list[Any], words: str) -> None:
    assert run_phase(status, found) == words


def test_a_permanent_error_is_shown_and_not_the_retry() -> None:
    record = RunRecord(name="demo", task="tune", state="failed", error="no class nowhere.Found")
    retried = job("Running", failed=1, reason="AppFailed", message="exit code 1")
    seen = RunStatus(retried, run_phase(retried, [], record), record=record)
    lines = dict(seen.lines())
    assert lines["run"] == "demo: failed" and lines["error"] == "no class nowhere.Found"
    assert lines["retries"] == "KubeRay is at attempt 2 of 4"


def test_retries_that_the_submitter_took_back() -> None:
    ended = job("Failed", failed=2)
    ended["spec"]["backoffLimit"] = 0
    assert rayjobs.format_retry(ended) == "attempt 2 of 2"


@pytest.mark.parametrize(
    "reason, words",
    [
        ("JobStatusCheckTimeoutExceeded", "got no answer from the head about the job"),
        ("DeadlineExceeded", "lifetime.activeDeadlineSeconds is over"),
    ],
)
def test_a_reason_that_is_never_retried_is_explained(reason: str, words: str) -> None:
    ended = job("Failed", failed=1, reason=reason, message="of KubeRay")
    seen = dict(RunStatus(ended, "failed").lines())
    assert seen["error"].startswith(f"{reason}: of KubeRay: ") and words in seen["error"]
    assert seen["error"].endswith("KubeRay does not retry that: trainer resume demo") and "retries" not in seen
    assert rayjobs.format_state(ended).endswith("trainer resume demo")
    assert rayjobs.format_retry(job("Failed", failed=1, reason="AppFailed")) == "attempt 1 of 4"


def test_progress_without_a_storage_is_the_rayjobs() -> None:
    rayjob = job("Running")
    rayjob["metadata"]["annotations"]["trainer/progress"] = "3/10 epochs"
    assert (
        dict(RunStatus(rayjob, "running", storage_error="can't be read from here").lines())["progress"] == "3/10 epochs"
    )
    record = RunRecord(name="demo", task="train", done=4, epochs=10)
    assert RunStatus(rayjob, "running", record=record).progress == "running, 4/10 epochs"


@pytest.mark.parametrize(
    "submission, final, words",
    [("demo-1", True, "failed"), ("demo-1", False, "running"), ("demo-0", True, "running")],
    ids=["for good", "may pass", "of a submission before"],
)
def test_a_failure_is_shown_before_the_operator_sees_it(submission: str, final: bool, words: str) -> None:
    record = RunRecord(name="demo", task="tune", state="failed", error="no", submission=submission, final=final)
    one = job("Running")
    one["spec"]["jobId"] = "demo-1"
    assert run_phase(one, [RUNNING], record) == words


def test_a_run_that_never_began_shows_the_operators_words() -> None:
    seen = RunStatus(job("Failed", reason="PreRunningDeadlineExceeded", message="20 s"), "failed")
    assert dict(seen.lines())["error"] == "PreRunningDeadlineExceeded: 20 s"


@pytest.mark.parametrize(
    "start, attempt, words",
    [
        ("2026-01-01T00:00:00Z", 1, ""),
        ("2026-01-01T00:00:00Z", 2, "in place, attempt 2"),
        ("2026-01-01T00:05:00Z", 2, "on a new cluster, attempt 2"),
    ],
)
def test_where_it_resumed(start: str, attempt: int, words: str) -> None:
    created = datetime(2026, 1, 1, 0, 1, tzinfo=UTC).timestamp()
    record = RunRecord(name="demo", task="train", attempt=attempt, created=created)
    assert RunStatus(job("Running", startTime=start), "running", record=record).recovered == words


def test_a_lost_worker_is_a_recovery_of_the_same_driver() -> None:
    record = RunRecord(name="demo", task="train", created=datetime(2026, 1, 1, 0, 1, tzinfo=UTC).timestamp())
    seen = RunStatus(job("Running", startTime="2026-01-01T00:00:00Z"), "running", record=record, attempts=2)
    assert seen.recovered == "in place, attempt 2"


def test_why_the_last_three_attempts_ended_is_said() -> None:
    past = [AttemptRecord(number=n, state="lost", reason=f"driver {n} stopped answering") for n in range(1, 6)]
    past[-1] = past[-1].model_copy(update={"reason": ""})  # older versions recorded none
    record = RunRecord(name="demo", task="train", attempt=6, past=past, created=1e9)
    lines = RunStatus(job("Running"), "running", record=record).lines()
    assert [line for line in lines if line[1].startswith("lost")] == [
        (f"attempt {n}", f"lost: driver {n} stopped answering") for n in (2, 3, 4)
    ]


def test_progress_of_a_sweep() -> None:
    record = RunRecord(name="d", task="tune", num_samples=4, done=2, metric="acc", best=0.91234, attempt=2)
    assert format_progress(record) == "running, 2/4 trials, best acc=0.9123, attempt 2"


@dataclass
class Events:
    """A cluster that has these objects, and nothing else; it counts what it is asked, and what it sends."""

    found: list[Any]
    asked: int = 0
    sent: int = 0

    def list(self, kind: str, *, labels: Mapping[str, str] | None = None, fields: Any = None) -> list[Any]:
        self.asked += 1
        wanted = (labels or {}).items()
        answer = [one for one in self.found if wanted <= one.get("metadata", {}).get("labels", {}).items()]
        answer = [one for one in answer if all(value_at(one, key) == value for key, value in (fields or {}).items())]
        self.sent += len(answer)
        return answer


def value_at(one: Any, key: str) -> Any:
    for part in key.split("."):
        one = one[part]
    return one


@pytest.mark.parametrize(
    "labels, ours",
    [
        ({"trainer/run": "team"}, True),
        ({"ray.io/cluster": "team-abcde"}, True),  # CRDs that drop our label
        ({"trainer/run": "team", "ray.io/cluster": "team-abcde"}, True),
        ({"trainer/run": "team-stays", "ray.io/cluster": "team-stays"}, False),  # a RayCluster of its own
        ({"trainer/run": "other", "job-name": "team"}, False),
        ({"job-name": "team"}, True),
        ({"ray.io/cluster": "team-2-abcde"}, False),
    ],
)
def test_which_pods_are_a_runs(labels: dict[str, str], ours: bool) -> None:
    found = [{"metadata": {"name": "p", "labels": labels, "creationTimestamp": NOW}}]
    assert pods.list_run_pods(cast(Kube, Events(found)), "team") == (found if ours else [])
    rayjob = {"metadata": {"name": "team"}, "status": {"rayClusterName": "team-abcde"}}
    assert pods.find_run_pods(cast(Kube, Events(found)), rayjob) == (found if ours else [])


def event(kind: str, name: str, reason: str, message: str = "", type_: str = "Warning") -> Any:
    about = {"kind": kind, "name": name}
    return {"involvedObject": about, "reason": reason, "message": message, "type": type_, "lastTimestamp": NOW}


def test_events_count_while_the_run_waits_for_them() -> None:
    quota = event("RayCluster", "demo-abcde", "FailedToCreateWorkerPod", "exceeded quota: team")
    pull = event("Pod", "b", "Failed", "Failed to pull image: not found")
    others = [
        event("Pod", "d", "Unhealthy", "it runs by now"),
        event("RayCluster", "other-abcde", "FailedToCreateWorkerPod", "another run's"),
        event("Pod", "b", "Pulling", "normal", type_="Normal"),
        event("RayJob", "demo", "Conflict", "the object has been modified; please apply"),
    ]
    starting = job("Initializing", rayClusterName="demo-abcde")
    kube = cast(Kube, Events([quota, pull, *others]))
    assert pods.warning_events(kube, starting, [PULLING, RUNNING]) == [
        "RayCluster demo-abcde: FailedToCreateWorkerPod: exceeded quota: team",
        "Pod b: Failed: Failed to pull image: not found",
    ]
    assert pods.warning_events(kube, job("Running", rayClusterName="demo-abcde"), [RUNNING]) == []


def test_others_events_and_many_pods_cost_nothing() -> None:
    own = event("Pod", "w0", "Failed", "Failed to pull image: not found")
    cluster = Events([own, *(event("Pod", f"other-{n}", "Unhealthy", "again") for n in range(1000))])
    waiting = [pod(f"w{n}", {"waiting": {"reason": "ContainerCreating"}}) for n in range(200)]
    lines = pods.warning_events(cast(Kube, cluster), job("Running", rayClusterName="demo-abcde"), waiting)
    assert lines == ["Pod w0: Failed: Failed to pull image: not found"]
    assert (cluster.sent, cluster.asked) == (1, pods.MOST_ASKED)


NO_GPU = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."


def at(minute: int, name: str, reason: str, message: str, **more: Any) -> Any:
    return event("Pod", name, reason, message, **more) | {"lastTimestamp": f"2026-01-01T00:{minute:02}:00Z"}


@pytest.mark.parametrize("cluster", ["demo-abcde", ""])
def test_a_run_that_never_ran_names_what_was_missing(cluster: str) -> None:
    worker = "demo-abcde-gpu-worker-x2b4d"
    found = [
        at(1, worker, "FailedScheduling", "an older one"),
        at(5, worker, "FailedScheduling", NO_GPU),
        at(6, "demo-abcde-head", "Pulled", "image is here", type_="Normal"),
        at(7, worker, "FailedScheduling", "skip schedule deleting pod: team/demo"),
        at(8, "other-abcde-head", "FailedScheduling", "another run's"),
    ]
    late = job("Failed", reason="PreRunningDeadlineExceeded", message="900 s", rayClusterName=cluster)
    kube = cast(Kube, Events(found))
    assert follow.find_blockers(kube, late, list) == [f"Pod {worker}: FailedScheduling: {NO_GPU}"]
    found += [
        at(9, "demo-abcde-head", "Failed", m) for m in ('Failed to pull image "trainer:2"', "Error: ErrImagePull")
    ]
    assert follow.find_blockers(kube, late, list) == ['Pod demo-abcde-head: Failed: Failed to pull image "trainer:2"']
    assert follow.find_blockers(kube, job("Failed", reason="AppFailed"), list) == []
    found.clear()  # after an hour
    assert follow.find_blockers(kube, late, list) == []


@pytest.mark.parametrize(
    "change, why",
    [
        ({}, ""),
        ({"clusterSelector": {"ray.io/cluster": "x"}}, "the RayCluster of another release"),
        ({"shutdownAfterJobFinishes": False}, "lifetime.stoppable: false"),
    ],
)
def test_what_can_be_suspended(change: dict[str, Any], why: str) -> None:
    one = job("Running")
    one["spec"] |= change
    assert (why in rayjobs.why_not_suspendable(one)) and bool(why) == bool(rayjobs.why_not_suspendable(one))


TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    "spec, fits",
    [
        ({}, False),
        ({"tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}]}, True),
        ({"tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoExecute"}]}, False),
        ({"tolerations": [{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}]}, True),
        ({"tolerations": [{"key": "nvidia.com/gpu", "value": "other"}]}, False),
        ({"tolerations": [{"operator": "Exists"}], "nodeSelector": {"pool": "gpu"}}, True),
        ({"tolerations": [{"operator": "Exists"}], "nodeSelector": {"pool": "cpu"}}, False),
    ],
)
def test_which_nodes_a_pool_may_use(spec: Any, fits: bool) -> None:
    node = {"metadata": {"labels": {"pool": "gpu"}}, "spec": {"taints": [TAINT]}}
    assert doctor_gpus.is_eligible(node, spec) is fits


def gpus(asked: dict[str, int], nodes: dict[str, int], shared: bool) -> list[Finding]:
    """Of pools that may use all nodes, or the node of their own name alone."""

    def pool(name: str) -> Any:
        limits = {"limits": {"cpu": "1", "nvidia.com/gpu": "1"}}
        spec = {"nodeSelector": {} if shared else {"pool": name}, "containers": [{"resources": limits}]}
        return {"groupName": name, "maxReplicas": asked[name], "template": {"spec": spec}}

    cluster = {"headGroupSpec": {}, "workerGroupSpecs": [pool(name) for name in asked]}
    found = [
        {"metadata": {"name": n, "labels": {"pool": n}}, "spec": {}, "status": {"allocatable": {"nvidia.com/gpu": g}}}
        for n, g in nodes.items()
    ]
    kube = SimpleNamespace(request=lambda *_, **__: {"items": found})
    return doctor_gpus.check_gpus(cast(Kube, kube), [{"spec": {"rayClusterSpec": cluster}}])


def test_pools_that_share_nodes_are_counted_together() -> None:
    shared = gpus({"a": 2, "b": 2}, {"a": 2, "b": 1}, shared=True)
    assert [one.level for one in shared] == ["ok", "ok", "fail"]
    assert shared[-1].message == "pools a, b together request 4 nvidia.com/gpu, eligible nodes (2) have 3"
    assert [one.level for one in gpus({"a": 2, "b": 2}, {"a": 2, "b": 2}, shared=True)] == ["ok", "ok", "ok"]
    assert [one.level for one in gpus({"a": 2, "b": 2}, {"a": 2, "b": 2}, shared=False)] == ["ok", "ok"]
    assert [one.level for one in gpus({"a": 2, "b": 2}, {"a": 2, "b": 1}, shared=False)] == ["ok", "fail"]


def test_rights_by_resource() -> None:
    found = [rights.Right("get", "pods"), rights.Right("list", "pods"), rights.Right("get", "rayjobs", "ray.io")]
    assert rights.format_rights([*found, found[0]]) == "get, list pods; get rayjobs.ray.io"
    assert rights.format_rights(rights.rights_to_create(["Ingress", "PersistentVolumeClaim"])) == (
        "create, delete, patch ingresses.networking.k8s.io; create persistentvolumeclaims"
    )
    assert rights.format_rights(rights.rights_to_recreate(["Service", "RayJob"])) == (
        "create, delete, get, patch services; create rayjobs.ray.io"
    )


def test_the_probe_is_a_worker_that_asks_the_storage() -> None:
    container = {"name": "ray-worker", "image": "trainer:1", "envFrom": [{"secretRef": {"name": "s3"}}]}
    template = {"metadata": {"labels": {"trainer/role": "worker"}}, "spec": {"containers": [container]}}
    group = {"groupName": "cpu", "labels": {"trainer/run": "x"}, "template": template}
    made = doctor_pod.make_probe_pod(
        {"metadata": {"name": "x"}, "spec": {"rayClusterSpec": {"workerGroupSpecs": [group]}}}
    )
    asked = made["spec"]["containers"][0]
    assert asked["command"][-1] == "trainer_app.pod.probe" and asked["envFrom"] == container["envFrom"]
    assert made["metadata"]["labels"] == {"trainer/run": "x", "trainer/role": "worker"}
    assert "command" not in container
