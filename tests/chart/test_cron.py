"""A run that a RayCronJob created, as the launcher finds it: KubeRay gives it a name, one label and one annotation."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import pytest

from trainer_app.errors import NotFoundError
from trainer_app.launch import cron, location, manifests, pods
from trainer_app.launch.kube import Kube
from trainer_app.launch.location import RunLocation
from trainer_app.launch.status import RunStatus

pytestmark = pytest.mark.chart
CRON = ("kind=RayCronJob", "cron.schedule=@daily")
MINIO = "http://minio.minio.svc.cluster.local:9000"
AT = "2026-01-01T00:00:00Z"


@dataclass
class Table:
    """RayJobs and pods."""

    jobs: list[Any]
    pods: list[Any]
    namespace: str = "team"

    def user(self) -> str:
        return "alice"

    def list(self, kind: str, *, labels: Any = None) -> list[Any]:
        return self.jobs if kind == "RayJob" else self.pods


@pytest.fixture
def child(text: Callable[..., str]) -> Any:
    """As KubeRay makes it of the RayCronJob `nightly`."""
    cron_job = manifests.load_objects(text(*CRON, name="nightly", task="tune"))[-1]
    notes = {"ray.io/cronjob-scheduled-timestamp": AT}
    labels = {"ray.io/cronjob-name": "nightly"}
    meta = {"name": "nightly-x7k2p", "labels": labels, "annotations": notes, "creationTimestamp": AT}
    return {"metadata": meta, "spec": cron_job["spec"]["jobTemplate"], "status": {}}


def test_a_scheduled_run_has_a_storage(child: Any) -> None:
    assert location.location_of(child) == RunLocation(
        "nightly-x7k2p", "s3://trainer/runs", MINIO, "us-east-1", "trainer-s3"
    )
    assert location.task_of(child) == "tune"
    with pytest.raises(NotFoundError, match="submitted none of the 1 runs"):  # it is seen, and nobody's
        location.find_rayjob(cast(Kube, Table([child], [])), None)


def test_a_duplicate_of_a_scheduled_run_says_so(child: Any) -> None:
    """Its driver has ended well, and there is nothing in the storage."""
    progress = dict(RunStatus(child, "succeeded").lines())["progress"]
    assert progress == "skipped: KubeRay triggered the schedule twice, and another run was first"
    for other in (
        RunStatus(child, "running"),
        RunStatus(child, "succeeded", storage_error="can't be read from here"),
        RunStatus({**child, "metadata": {**child["metadata"], "labels": {}}}, "succeeded"),
    ):
        assert "progress" not in dict(other.lines())


def test_a_schedule_of_something_else_makes_no_runs(child: Any) -> None:
    child["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["env"] = []
    assert location.list_rayjobs(cast(Kube, Table([child], []))) == []


# Of KubeRay 1.6, 1.7, and any other.
@pytest.mark.parametrize("name", ["nightly-x7k2p", "nightly-29912345", "nightly-20260101-0300"])
def test_its_pods_are_found(child: Any, name: str) -> None:
    child["metadata"]["name"] = name
    cluster = child["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["metadata"]["labels"]
    submitter = child["spec"]["submitterPodTemplate"]["metadata"]["labels"]
    found = [
        pod("head", {**cluster, "ray.io/cluster": f"{name}-abcde"}),
        pod("submitter", {**submitter, "job-name": name}),
        pod("of another RayJob", {**cluster, "ray.io/cluster": "nightly-bbbbb-abcde"}),
    ]
    kube = cast(Kube, Table([child], found))
    ours = pods.list_run_pods(kube, name, cron.schedule_name(child))
    assert [one["metadata"]["name"] for one in ours] == ["head", "submitter"]
    assert pods.list_run_pods(kube, name) == [], "another run's label"


def pod(name: str, labels: dict[str, str]) -> Any:
    return {"metadata": {"name": name, "labels": labels, "creationTimestamp": AT}}
