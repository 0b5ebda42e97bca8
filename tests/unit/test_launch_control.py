"""What stop, resume and delete decide, on a real storage and a cluster that is a table of objects.

That the operator does its part is shown end to end (tests/e2e/test_stop.py).
"""

import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from tests.s3 import S3
from trainer_app.errors import AccessDeniedError, InputError, NotFoundError, TrainerError
from trainer_app.launch import control, rayjobs, status, waiting
from trainer_app.launch.kube import Kube
from trainer_app.launch.remote_run import RemoteRun

pytestmark = pytest.mark.unit


@dataclass
class Table:
    """One RayJob and pods. An operator that is there follows `suspend` and lets go of what was deleted."""

    job: Any
    pods: list[Any] = field(default_factory=list)
    operator: bool = True
    slow: bool = False  # the operator has not seen yet that it may resume
    namespace: str = "team"
    changes: list[Any] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)

    def user(self) -> str:
        return "alice"

    def get(self, kind: str, name: str) -> Any:
        if self.job is None:
            raise NotFoundError("gone")
        return self.job

    def list(self, kind: str, *, labels: Any = None) -> list[Any]:
        self.asked[f"{kind}{'' if labels else ' of all'}"] += 1
        return self.pods if kind == "Pod" else []

    def watch(self, kind: str, *, timeout_s: int, **selectors: str) -> Any:
        raise AccessDeniedError("this user may not")

    def patch(self, kind: str, name: str, change: Any) -> None:
        self.changes.append(change)
        self.job["spec"] |= change["spec"]
        if self.operator and not (self.slow and not change["spec"]["suspend"]):
            self.job["status"]["jobDeploymentStatus"] = "Suspended" if change["spec"]["suspend"] else "Initializing"

    def delete(self, kind: str, name: str) -> None:
        self.changes.append("delete")
        if self.operator:
            self.job = None


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("POLL_S", 0.01), ("OPERATOR_TIMEOUT_S", 0.2), ("PODS_TIMEOUT_S", 0.2)):
        monkeypatch.setattr(waiting, name, seconds)


@pytest.fixture
def stored(s3: S3) -> RemoteRun:
    return RemoteRun.open(s3.uri, "demo")


def job(stored: RemoteRun, status: str, **spec: Any) -> Any:
    notes = {"trainer/storage-uri": stored.run_store.uri.removesuffix("/demo")}
    meta = {"name": "demo", "labels": {"trainer/run": "demo"}, "annotations": notes}
    return {"metadata": meta, "spec": {"shutdownAfterJobFinishes": True, **spec}, "status": status_of(status)}


def status_of(words: str) -> dict[str, str]:
    status, _, result = words.partition(" ")
    return {"jobDeploymentStatus": status, "jobStatus": result}


def begun(stored: RemoteRun) -> None:
    stored.run_store.put("run.json", json.dumps({"name": "demo", "task": "train"}).encode())


def stop(table: Table, **options: Any) -> list[str]:
    said: list[str] = []
    control.stop(cast(Kube, table), table.job, say=said.append, **{"grace": 1.0, **options})
    return said


def resume(table: Table) -> tuple[bool, list[str]]:
    said: list[str] = []
    return control.resume(cast(Kube, table), table.job, say=said.append), said


def answer(stored: RemoteRun) -> threading.Thread:
    """A driver that commits as soon as it is asked."""

    def drive() -> None:
        while not stored.run_store.exists("control/stop.json"):
            time.sleep(0.02)
        request = json.loads(stored.run_store.get("control/stop.json"))["id"]
        stopped = {"id": request, "epochs": 3, "step": 120, "commit": "c3"}
        stored.run_store.put("control/stopped.json", json.dumps(stopped).encode())

    thread = threading.Thread(target=drive, daemon=True)
    thread.start()
    return thread


def test_stop_waits_for_the_commit_and_then_suspends(stored: RemoteRun) -> None:
    begun(stored)
    driver, table = answer(stored), Table(job(stored, "Running RUNNING"))
    said = stop(table, grace=10.0)
    driver.join()
    assert said[-1].startswith(
        "stopped run demo at step 120 (3 epochs, commit c3); resume it with: trainer resume demo"
    )
    assert table.changes == [{"spec": {"suspend": True}}]
    assert stop(table) == ["run demo is stopped already, at step 120 (3 epochs, commit c3)"]
    assert len(table.changes) == 1


def test_stop_without_an_answer_suspends_after_the_grace(stored: RemoteRun) -> None:
    begun(stored)
    table = Table(job(stored, "Running RUNNING"))
    said = stop(table, grace=0.05)
    assert "no commit within 0 s" in said[1] and "at its newest commit" in said[-1]
    assert table.changes == [{"spec": {"suspend": True}}]


@pytest.mark.parametrize("status", ["Initializing", "Running"])
def test_a_run_that_has_not_begun_is_not_asked(stored: RemoteRun, status: str) -> None:
    table = Table(job(stored, status))
    assert "before it started" in stop(table, grace=10.0)[-1]
    assert not stored.run_store.exists("control/stop.json")


@pytest.mark.parametrize("status", ["Complete SUCCEEDED", "Failed FAILED", "ValidationFailed"])
def test_there_is_nothing_to_stop(stored: RemoteRun, status: str) -> None:
    table = Table(job(stored, status))
    assert "nothing to stop" in stop(table)[0] and table.changes == []


def test_what_kuberay_would_refuse_to_suspend_is_not_tried(stored: RemoteRun) -> None:
    table = Table(job(stored, "Running", clusterSelector={"ray.io/cluster": "big"}))
    with pytest.raises(InputError, match="trainer delete demo"):
        stop(table)
    assert table.changes == []


def test_an_operator_that_is_away_is_named(stored: RemoteRun) -> None:
    table = Table(job(stored, "Running"), operator=False)
    with pytest.raises(TrainerError, match="check that the KubeRay operator is running"):
        stop(table)


def test_resume_waits_for_the_pods_of_the_former_cluster(stored: RemoteRun) -> None:
    pod = {"metadata": {"name": "demo-x", "labels": {"trainer/run": "demo"}, "creationTimestamp": ""}, "spec": {}}
    table = Table(job(stored, "Suspended", suspend=True), [{**pod, "status": {}}])
    with pytest.raises(TrainerError, match=r"still exist .* demo-x"):
        resume(table)
    assert table.changes == []
    said: list[str] = []

    def say(words: str) -> None:
        said.append(words)
        if words.startswith("waiting for pods to end"):
            table.pods.clear()

    stored.request_stop("one", "alice")
    stored.run_store.put("control/stopped.json", b'{"id": "one", "epochs": 3, "step": 120, "commit": "c3"}')
    control.resume(cast(Kube, table), table.job, say=say)
    assert said == [
        "waiting for pods to end: demo-x",
        "resumed run demo from step 120 (3 epochs, commit c3)",
    ]
    assert table.changes == [{"spec": {"suspend": False}}]
    assert not stored.run_store.exists("control/stop.json")  # else it would stop again


@pytest.mark.parametrize("verb", ["resume", "delete"])
def test_who_waits_for_pods_lists_those_of_the_namespace_once(
    verb: str, stored: RemoteRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "PODS_TIMEOUT_S", 20.0)
    meta = {"name": "demo-x", "creationTimestamp": ""}
    of_former_cluster = {"metadata": {**meta, "labels": {"ray.io/cluster": "demo-abcde"}}, "spec": {}, "status": {}}
    table = Table(job(stored, "Suspended", suspend=True), [of_former_cluster])
    asked = table.list

    def list_pods(kind: str, *, labels: Any = None) -> list[Any]:
        if labels == {"ray.io/cluster": "demo-abcde"} and table.asked["Pod"] > 20:
            table.pods.clear()
        return asked(kind, labels=labels)

    table.list = list_pods  # type: ignore[method-assign]
    if verb == "resume":
        assert resume(table)[0]
    else:
        control.delete(cast(Kube, table), table.job, grace=0.0, say=lambda _: None)
    assert table.asked["Pod of all"] == 1 and table.asked["Pod"] > 20


def test_a_resumed_run_has_not_ended_while_kuberay_still_calls_it_suspended(stored: RemoteRun) -> None:
    table = Table(job(stored, "Suspended", suspend=True), slow=True)
    assert rayjobs.has_ended(table.job) and rayjobs.exit_code(table.job) == 130
    assert resume(table)[1][-1].startswith("resumed run demo")
    assert table.job["status"]["jobDeploymentStatus"] == "Suspended"
    assert not rayjobs.has_ended(table.job) and rayjobs.format_state(table.job) == "run demo: New"
    assert status.run_phase(table.job, []) == "submitted"
    assert "nothing to resume" in resume(table)[1][0]
    assert stop(table)[-1].startswith("stopped run demo")
    assert table.changes == [{"spec": {"suspend": False}}, {"spec": {"suspend": True}}]


@pytest.mark.parametrize(
    "status, words",
    [("Running RUNNING", "is running"), ("Complete SUCCEEDED", "has finished"), ("Retrying", "running")],
)
def test_there_is_nothing_to_resume(stored: RemoteRun, status: str, words: str) -> None:
    table = Table(job(stored, status))
    done, said = resume(table)
    assert done and words in said[0] and table.changes == []


@pytest.mark.parametrize("status", ["Failed FAILED", "ValidationFailed", "Complete STOPPED"])
def test_what_is_over_is_created_again(stored: RemoteRun, status: str) -> None:
    assert resume(Table(job(stored, status, suspend=status == "ValidationFailed"))) == (False, [])


def test_delete_asks_for_a_commit_first(stored: RemoteRun) -> None:
    begun(stored)
    driver, table, said = answer(stored), Table(job(stored, "Running")), list[str]()
    control.delete(cast(Kube, table), table.job, grace=10.0, say=said.append)
    driver.join()
    assert table.changes == ["delete"] and said[-1].startswith("deleted run demo")


def test_delete_works_while_the_storage_is_away(stored: RemoteRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    table = Table(job(stored, "Running"))
    table.job["metadata"]["annotations"] |= {
        "trainer/storage-uri": "s3://bucket/p",
        "trainer/storage-endpoint": "http://127.0.0.1:9",
    }
    said: list[str] = []
    control.delete(cast(Kube, table), table.job, grace=10.0, say=said.append)
    assert table.changes == ["delete"] and "does not answer from here" in said[0]


def test_a_deletion_that_nobody_carries_out_is_an_error(stored: RemoteRun) -> None:
    table = Table(job(stored, "Failed FAILED"), operator=False)
    with pytest.raises(TrainerError, match="the KubeRay operator, which removes its finalizer"):
        control.delete(cast(Kube, table), table.job, grace=0.0, say=lambda _: None)
