"""What the launcher makes of answers: pure functions."""

from typing import Any

import pytest

from trainer_app.errors import InputError
from trainer_app.launch import helm, pods, rayjobs
from trainer_app.launch.manifests import load_objects
from trainer_app.launch.tunnel import parse_service

pytestmark = pytest.mark.unit


def job(**status: str) -> dict[str, Any]:
    suspend = status.get("jobDeploymentStatus") == "Suspended"
    return {"metadata": {"name": "demo"}, "spec": {"suspend": suspend}, "status": status}


@pytest.mark.parametrize(
    "status, code",
    [
        ({"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}, 0),
        ({"jobDeploymentStatus": "Complete", "jobStatus": "STOPPED"}, 130),
        ({"jobDeploymentStatus": "Suspended", "jobStatus": "RUNNING"}, 130),
        ({"jobDeploymentStatus": "Failed", "jobStatus": "FAILED"}, 1),
        ({"jobDeploymentStatus": "Failed", "jobStatus": "SUCCEEDED"}, 1),
        ({"jobDeploymentStatus": "ValidationFailed"}, 1),
    ],
)
def test_exit_codes(status: dict[str, str], code: int) -> None:
    assert rayjobs.exit_code(job(**status)) == code


def test_state_says_why_at_the_end_only() -> None:
    assert rayjobs.format_state(job()) == "run demo: New"
    ended = job(jobDeploymentStatus="Failed", jobStatus="FAILED", reason="AppFailed", message="m")
    assert rayjobs.format_state(ended) == "run demo: Failed (FAILED): AppFailed: m"
    assert rayjobs.format_state(job(jobDeploymentStatus="Running", message="old")) == "run demo: Running"


def test_stuck_pods_in_kubernetes_words() -> None:
    unscheduled = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes: 3 Insufficient nvidia.com/gpu."}
    pulling = {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}
    creating = {"state": {"waiting": {"reason": "ContainerCreating"}}}
    found = [
        {"metadata": {"name": "a"}, "status": {"conditions": [unscheduled]}},
        {"metadata": {"name": "b"}, "status": {"containerStatuses": [pulling]}},
        {"metadata": {"name": "c"}, "status": {"containerStatuses": [creating, {"state": {"running": {}}}]}},
    ]
    assert pods.blocked_pods(found) == [
        "pod a is not scheduled: 0/3 nodes: 3 Insufficient nvidia.com/gpu.",
        "pod b waits: ImagePullBackOff: no such image",
    ]


@pytest.mark.parametrize(
    "endpoint, service",
    [
        ("http://minio.minio.svc.cluster.local:9000", ("minio", "minio", 9000)),
        ("https://s3.store.svc", ("s3", "store", 443)),
        ("http://localhost:9000", None),
        ("https://bucket.example", None),
        ("", None),
    ],
)
def test_which_endpoints_are_services(endpoint: str, service: tuple[str, str, int] | None) -> None:
    assert parse_service(endpoint) == service


def test_helms_error_in_one_line() -> None:
    said = "Error: execution error at (trainer/templates/rayjob.yaml:1:4): run a asks\n\nUse --debug flag to render\n"
    assert helm.format_error(said) == "run a asks"
    assert helm.format_error("WARNING: x\nError: values don't meet\ntrainer:\n- at '/x'\n") == (
        "values don't meet trainer: - at '/x'"
    )


OLDER = """Error: values don't meet the specifications of the schema(s) in the following chart(s):
trainer:
- (root): Additional property kinds is not allowed
- pools.cpu.replicas: Invalid type. Expected: integer, given: string
- storage.bucket: Does not match pattern '^([A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9])?$'
- kind: kind must be one of the following: "RayJob", "RayCluster", "RayCronJob"
- image: tag is required
- head.trialDrivers: Must be greater than or equal to 1
"""


def test_older_helms_refusals_are_sentences_too() -> None:
    assert helm.format_error(OLDER) == (
        "values: kinds is not allowed (did you mean kind?); pools.cpu.replicas must be an integer, not a string; "
        "storage.bucket must be a bucket's name, 3 to 255 letters, digits, '.', '-' and '_'; or empty; "
        "kind must be one of RayJob, RayCluster, RayCronJob; image.tag is missing; "
        "head.trialDrivers: Must be greater than or equal to 1"
    )


def test_values_by_path_or_name() -> None:
    assert helm.find_values_file("kind").name == "kind.yaml"
    with pytest.raises(InputError, match=r"no values file nope; .* kind"):
        helm.find_values_file("nope")


def test_the_rayjob_is_created_last() -> None:
    text = "---\nkind: RayJob\n---\n# nothing\n---\nkind: ConfigMap\na: 1e-3\nb: off\n"
    assert load_objects(text) == [{"kind": "ConfigMap", "a": 0.001, "b": "off"}, {"kind": "RayJob"}]
