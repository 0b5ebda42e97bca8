"""The runs that a RayCronJob fires: RayJobs that KubeRay makes, without the labels and annotations of the chart.

Each is a run of its own, under its RayJob's name in the storage too (trainer_app.run.identity). What a submitted
run has in annotations stands in its pods alone.
"""

from __future__ import annotations

from typing import Final

from trainer_app.launch import rayjob
from trainer_app.launch.kube import Object
from trainer_app.run.identity import FROM_CLUSTER

TIMETABLE: Final = "ray.io/cronjob-name"


def fired(job: Object) -> bool:
    """Whether it is a firing of a timetable of this chart's; there may be others in the namespace."""
    return TIMETABLE in job["metadata"].get("labels", {}) and _env(job).get(FROM_CLUSTER) == "1"


def storage(job: Object) -> tuple[str, str, str, str]:
    """(URI, endpoint, region, Secret) as the head's container has them; empty texts: not given there."""
    env = _env(job)
    secrets = (one["secretRef"]["name"] for one in _head(job).get("envFrom", []) if "secretRef" in one)
    uri, endpoint, region = (env.get(key, "") for key in ("TRAINER_STORAGE_URI", "AWS_ENDPOINT_URL", "AWS_REGION"))
    return uri, endpoint, region, next(secrets, "")


def task(job: Object) -> str:
    """train or tune, from `trainer tune /etc/trainer/run.yaml ...`."""
    words = str(job["spec"].get("entrypoint", "")).split()
    return next((word for word in words if word in ("train", "tune")), "")


def _head(job: Object) -> Object:
    template = rayjob.cluster_spec(job).get("headGroupSpec", {}).get("template", {})
    found: list[Object] = template.get("spec", {}).get("containers", [])
    return found[0] if found else {}


def _env(job: Object) -> dict[str, str]:
    return {one["name"]: one.get("value", "") for one in _head(job).get("env", [])}
