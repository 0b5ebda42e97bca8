"""The runs that a RayCronJob creates: RayJobs that KubeRay makes, without the labels and annotations of the chart.

Each is a run of its own, under its RayJob's name in the storage too (trainer_app.run.identity). What a submitted run
has in annotations is only in the environment of its pods.
"""

from __future__ import annotations

from typing import Final

from trainer_app.launch import rayjobs
from trainer_app.launch.kube import Object
from trainer_app.run.identity import FROM_CLUSTER

CRON_LABEL: Final = "ray.io/cronjob-name"


def is_scheduled(rayjob: Object) -> bool:
    """Return whether a RayCronJob of this chart created it; the namespace may have RayCronJobs of others."""
    return CRON_LABEL in rayjob["metadata"].get("labels", {}) and _head_env(rayjob).get(FROM_CLUSTER) == "1"


def schedule_name(rayjob: Object) -> str:
    """Return the RayCronJob that created a RayJob, "" if none did. The form of its name is KubeRay's to change."""
    return str(rayjob["metadata"].get("labels", {}).get(CRON_LABEL, ""))


def storage_settings(rayjob: Object) -> tuple[str, str, str, str]:
    """Return (URI, endpoint, region, Secret) from the head's container; "" for what is not set there."""
    env = _head_env(rayjob)
    secrets = (source["secretRef"]["name"] for source in _head(rayjob).get("envFrom", []) if "secretRef" in source)
    uri, endpoint, region = (env.get(key, "") for key in ("TRAINER_STORAGE_URI", "AWS_ENDPOINT_URL", "AWS_REGION"))
    return uri, endpoint, region, next(secrets, "")


def entrypoint_task(rayjob: Object) -> str:
    """Return train or tune from an entrypoint such as `trainer tune /etc/trainer/run.yaml ...`; "" if it has none."""
    arguments = str(rayjob["spec"].get("entrypoint", "")).split()
    return next((argument for argument in arguments if argument in ("train", "tune")), "")


def _head(rayjob: Object) -> Object:
    template = rayjobs.cluster_spec(rayjob).get("headGroupSpec", {}).get("template", {})
    containers: list[Object] = template.get("spec", {}).get("containers", [])
    return containers[0] if containers else {}


def _head_env(rayjob: Object) -> dict[str, str]:
    return {variable["name"]: variable.get("value", "") for variable in _head(rayjob).get("env", [])}
