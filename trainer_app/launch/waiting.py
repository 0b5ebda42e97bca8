"""Waiting until the operator and Kubernetes have done what stop, resume and delete asked for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Final

from trainer_app.errors import NotFoundError, TrainerError
from trainer_app.launch import pods, rayjobs
from trainer_app.launch.changes import Changes
from trainer_app.launch.kube import Kube

POLL_S: Final = 1.0
OPERATOR_TIMEOUT_S: Final = 120.0  # the operator acts within seconds; if it takes longer, it is not running
PODS_TIMEOUT_S: Final = 180.0  # terminationGracePeriodSeconds and Ray's drain, with room
LOOK_S: Final = 10.0  # between two looks at pods that have no label of ours, which no watch sees


def until_suspended(kube: Kube, run: str) -> None:
    """Wait until KubeRay has suspended the run. TrainerError if it has ended, or after OPERATOR_TIMEOUT_S."""
    for _ in poll(OPERATOR_TIMEOUT_S):
        rayjob = kube.get("RayJob", run)
        if rayjobs.status(rayjob) == "Suspended":
            return
        if rayjobs.has_ended(rayjob):
            raise TrainerError(f"{rayjobs.format_state(rayjob)}: it could not be suspended")
    raise TrainerError(
        f"run {run} is not suspended after {OPERATOR_TIMEOUT_S:.0f} s (status: {rayjobs.status(rayjob)}); "
        "check that the KubeRay operator is running: trainer doctor"
    )


def until_deleted(kube: Kube, run: str, schedule: str, *, say: Callable[[str], None]) -> None:
    """Wait until a deleted run's RayJob and then its pods are gone.

    Args:
        schedule: the RayCronJob that created it, or "".

    Raises:
        TrainerError: the RayJob exists after OPERATOR_TIMEOUT_S, or pods after PODS_TIMEOUT_S.
    """
    for _ in poll(OPERATOR_TIMEOUT_S):
        try:
            kube.get("RayJob", run)
        except NotFoundError:
            until_no_pods(kube, run, schedule, say=say)
            return
    raise TrainerError(
        f"run {run} still exists {OPERATOR_TIMEOUT_S:.0f} s after it was deleted: the KubeRay operator, which removes "
        "its finalizer, does not respond; check it with: trainer doctor"
    )


def until_no_pods(kube: Kube, run: str, schedule: str, *, say: Callable[[str], None]) -> None:
    """Wait for the run's pods to end: KubeRay does not, and they still write. TrainerError after PODS_TIMEOUT_S.

    All pods of the namespace are listed once, for those of former clusters, then only this run's.
    """
    left = pods.alive(pods.list_run_pods(kube, run, schedule))
    if not left:
        return
    say(f"waiting for pods to end: {', '.join(pod['metadata']['name'] for pod in left)}")
    clusters = {name for pod in left if (name := pod["metadata"]["labels"].get("ray.io/cluster"))}
    end = time.monotonic() + PODS_TIMEOUT_S
    with Changes(kube, run, schedule, poll_s=POLL_S) as changes:
        while left := pods.alive(pods.list_labelled_pods(kube, run, schedule, clusters)):
            if time.monotonic() > end:
                names = ", ".join(pod["metadata"]["name"] for pod in left)
                raise TrainerError(
                    f"pods of run {run} still exist after {PODS_TIMEOUT_S:.0f} s: {names}; see why, then repeat"
                )
            changes.wait(min(LOOK_S, PODS_TIMEOUT_S))


def poll(seconds: float) -> Iterator[None]:
    """Yield at once, and then every POLL_S until the seconds have passed."""
    end = time.monotonic() + seconds
    yield
    while time.monotonic() < end:
        time.sleep(POLL_S)
        yield
