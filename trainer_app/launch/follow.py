"""A submitted run until it ends: what it waits for, the driver's log, how it ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from trainer_app.errors import TrainerError
from trainer_app.launch.kube import Kube, Object, explained

POLL_S: Final = 1.0
ENDED: Final = ("Complete", "Failed", "ValidationFailed", "Suspended")
# Waiting reasons that mend themselves within seconds
PASSING: Final = ("ContainerCreating", "PodInitializing")
Say = Callable[[str], None]


def until_end(kube: Kube, run: str, *, say: Say, show: Say | None) -> int:
    """Follow a run.

    Args:
        say: takes what a person should know: the state, and what holds it up, once each.
        show: takes the driver's log, line by line; None: no log.

    Returns:
        0 SUCCEEDED, 1 FAILED, 130 STOPPED or suspended.
    """
    log = DriverLog(kube, run, show) if show else None
    told: set[str] = set()
    while True:
        job = kube.get("RayJob", run)
        for line in [state(job), *stuck(pods(kube, job))]:
            if line not in told:
                told.add(line)
                say(line)
        if log:
            log.read()
        if status(job) in ENDED:
            return exit_code(job)
        time.sleep(POLL_S)


def status(job: Object) -> str:
    return job.get("status", {}).get("jobDeploymentStatus") or "New"


def state(job: Object) -> str:
    """`run x: Failed (FAILED): AppFailed: ...`"""
    known = job.get("status", {})
    result = f" ({known['jobStatus']})" if known.get("jobStatus") else ""
    why = ": ".join(known[key] for key in ("reason", "message") if known.get(key)) if status(job) in ENDED else ""
    return f"run {job['metadata']['name']}: {status(job)}{result}{f': {why}' if why else ''}"


def exit_code(job: Object) -> int:
    result = job.get("status", {}).get("jobStatus")
    if status(job) == "Suspended" or result == "STOPPED":
        return 130
    return 0 if status(job) == "Complete" and result == "SUCCEEDED" else 1


def pods(kube: Kube, job: Object) -> list[Object]:
    """Of the run's current cluster, and its submitter's. By KubeRay's own labels, which also old CRDs keep."""
    cluster = job.get("status", {}).get("rayClusterName")
    found = kube.list("Pod", labels={"ray.io/cluster": cluster}) if cluster else []
    return found + submitters(kube, job["metadata"]["name"])


def submitters(kube: Kube, run: str) -> list[Object]:
    return kube.list("Pod", labels={"job-name": run})


def stuck(found: list[Object]) -> list[str]:
    """Why pods don't run, in Kubernetes' words."""
    lines = []
    for pod in found:
        name, seen = pod["metadata"]["name"], pod["status"]
        lines += [
            f"pod {name} is not scheduled: {condition.get('message', condition.get('reason'))}"
            for condition in seen.get("conditions", [])
            if condition["type"] == "PodScheduled" and condition["status"] == "False"
        ]
        for container in [*seen.get("initContainerStatuses", []), *seen.get("containerStatuses", [])]:
            waiting = container["state"].get("waiting") or {}
            if waiting.get("reason", PASSING[0]) not in PASSING:
                lines.append(f"pod {name} waits: {waiting['reason']}: {waiting.get('message', '')}".rstrip(": "))
    return lines


class DriverLog:
    """The driver's output, which the submitter's pod follows. Goes on where it stopped, also in a new pod."""

    def __init__(self, kube: Kube, run: str, show: Say) -> None:
        self.kube, self.run, self.show = kube, run, show
        self.pod, self.lines = "", 0

    def read(self, *, follow: bool = True) -> None:
        """Shows what is new, until the pod ends or only what is there; returns at once where there is no log yet."""
        started = [pod for pod in submitters(self.kube, self.run) if pod["status"]["phase"] != "Pending"]
        if not started:
            return
        pod = max(started, key=lambda pod: pod["metadata"]["creationTimestamp"])["metadata"]["name"]
        if pod != self.pod:
            self.pod, self.lines = pod, 0
        try:
            self._stream(follow=follow)
        except TrainerError as error:
            self.show(f"(the log broke off: {error})")

    def _stream(self, *, follow: bool) -> None:
        what = f"read the log of {self.pod}"
        with explained(what, kind="Pod", name=self.pod, namespace=self.kube.namespace):
            answer: Any = self.kube.core().read_namespaced_pod_log(
                self.pod, self.kube.namespace, follow=follow, _preload_content=False
            )
            rest, number = b"", 0
            for chunk in answer.stream(1 << 16):
                *whole, rest = (rest + chunk).split(b"\n")
                for line in whole:
                    number += 1
                    if number > self.lines:
                        self.lines = number
                        self.show(line.decode(errors="replace"))
