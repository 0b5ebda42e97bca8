"""A run is followed to its end, and its exit code is the run's, whatever can't be shown of it."""

from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from trainer_app.cli import submit
from trainer_app.errors import AccessDeniedError, StorageError, TrainerError
from trainer_app.launch import follow
from trainer_app.launch.kube import Kube

pytestmark = pytest.mark.unit
VOLUME = "/mnt/storage"
AWAY = "s3://b/p"


@dataclass
class Table:
    """A RayJob, and nothing else."""

    job: Any
    namespace: str = "team"
    events: list[Any] = field(default_factory=list)

    def get(self, kind: str, name: str) -> Any:
        return self.job

    def list(self, kind: str, *, labels: Any = None) -> list[Any]:
        return self.events if kind == "Event" else []


def job(uri: str, status: str = "Complete", result: str = "SUCCEEDED", **spec: Any) -> Any:
    notes = {"trainer/storage-uri": uri, "trainer/storage-endpoint": "http://127.0.0.1:9"}
    meta = {"name": "demo", "labels": {"trainer/run": "demo"}, "annotations": notes, "creationTimestamp": ""}
    return {"metadata": meta, "spec": spec, "status": {"jobDeploymentStatus": status, "jobStatus": result}}


def until_end(one: Any) -> tuple[int, list[str]]:
    said: list[str] = []
    return follow.follow_run(cast(Kube, Table(one)), "demo", say=said.append, show=said.append), said


@pytest.mark.parametrize("uri, why", [(VOLUME, "stored in a volume"), (AWAY, "does not answer from here")])
@pytest.mark.parametrize("result, code", [("SUCCEEDED", 0), ("FAILED", 1)])
def test_the_code_is_the_runs_where_its_results_cant_be_shown(
    uri: str, why: str, result: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    status = "Complete" if code == 0 else "Failed"
    assert submit.follow_submitted(cast(Kube, Table(job(uri, status, result))), "demo", None) == code
    assert why in capsys.readouterr().err


@pytest.mark.parametrize("uri, why", [(VOLUME, "stored in a volume"), (AWAY, "does not answer from here")])
def test_a_run_without_a_submitter_is_followed_without_its_log(uri: str, why: str) -> None:
    code, said = until_end(job(uri, submissionMode="HTTPMode"))
    assert code == 0 and "log can't be shown" in said[0] and why in said[0]
    assert said[1:] == ["run demo: Complete (SUCCEEDED)"]


@pytest.mark.parametrize("error", [StorageError("the storage is away"), AccessDeniedError("denied")])
def test_a_log_that_breaks_off_does_not_end_the_following(error: TrainerError, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr("trainer_app.launch.stored_logs.read_logs", away)
    one = job(AWAY, submissionMode="HTTPMode")
    del one["metadata"]["annotations"]["trainer/storage-endpoint"]
    code, said = until_end(one)
    assert code == 0 and str(error) in said
