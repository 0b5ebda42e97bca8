"""The runs that a RayCronJob fires: RayJobs that KubeRay makes, without the labels and annotations of the chart.

Each is a run of its own, under its RayJob's name in the storage too (trainer_app.run.identity). What a submitted
run has in annotations stands in its pods alone.
"""

from __future__ import annotations

from typing import Final

from trainer_app.launch import rayjobs
from trainer_app.launch.kube import Object
from trainer_app.run.identity import FROM_CLUSTER

SCHEDULE: Final = "ray.io/cronjob-name"


def is_scheduled(rayjob: Object) -> bool:
    """Whether it is a firing of a timetable of this chart's; there may be others in the namespace."""
    return SCHEDULE in rayjob["metadata"].get("labels", {}) and _env(rayjob).get(FROM_CLUSTER) == "1"


def storage_settings(rayjob: Object) -> tuple[str, str, str, str]:
    """(URI, endpoint, region, Secret) as the head's container has them; empty texts: not given there."""
    env = _env(rayjob)
    secrets = (one["secretRef"]["name"] for one in _head(rayjob).get("envFrom", []) if "secretRef" in one)
    uri, endpoint, region = (env.get(key, "") for key in ("TRAINER_STORAGE_URI", "AWS_ENDPOINT_URL", "AWS_REGION"))
    return uri, endpoint, region, next(secrets, "")


def entrypoint_task(rayjob: Object) -> str:
    """train or tune, from `trainer tune /etc/trainer/run.yaml ...`."""
    words = str(rayjob["spec"].get("entrypoint", "")).split()
    return next((word for word in words if word in ("train", "tune")), "")


def _head(rayjob: Object) -> Object:
    template = rayjobs.cluster_spec(rayjob).get("headGroupSpec", {}).get("template", {})
    found: list[Object] = template.get("spec", {}).get("containers", [])
    return found[0] if found else {}


def _env(rayjob: Object) -> dict[str, str]:
    return {one["name"]: one.get("value", "") for one in _head(rayjob).get("env", [])}
