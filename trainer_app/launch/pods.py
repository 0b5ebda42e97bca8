"""The pods of a run: which they are, how far each is, and why it does not run, from its status and from events."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

from trainer_app.launch import cron, rayjobs
from trainer_app.launch.kube import Kube, Object
from trainer_app.storage.parallel import map_parallel

TRANSIENT: Final = ("ContainerCreating", "PodInitializing")  # reasons for waiting that pass within seconds
MOST_ASKED: Final = 8  # waiting pods whose events are asked for
RUN_LABEL: Final = "trainer/run"
DEADLINE_EXCEEDED: Final = "PreRunningDeadlineExceeded"  # KubeRay's reason for a cluster that was not ready in time


def list_run_pods(kube: Kube, run: str, schedule: str = "") -> list[Object]:
    """Return every pod of the run, also of its former clusters and of its submitters, newest last.

    They are known by our label, and by the names that KubeRay gives (`<run>-<5 characters>`), since CRDs without
    generateEmbeddedObjectMeta drop the labels of pod templates. A pod with another run's label never belongs to this
    one, whatever its name: the cluster `team-stays` is not part of the run `team`.

    Args:
        schedule: the RayCronJob that created it, whose label its pods have: see `cron.schedule_name`.
    """
    run_pods = [pod for pod in kube.list("Pod") if _belongs_to(pod["metadata"].get("labels", {}), run, schedule)]
    return sorted(run_pods, key=lambda pod: pod["metadata"]["creationTimestamp"])


def find_run_pods(kube: Kube, rayjob: Object) -> list[Object]:
    """Return the pods of a run that has a RayJob, newest last; only pods with its labels are asked for.

    Pods of its former clusters are among them if they have our label.
    """
    cluster = rayjob.get("status", {}).get("rayClusterName")
    return list_labelled_pods(
        kube, rayjob["metadata"]["name"], cron.schedule_name(rayjob), [cluster] if cluster else []
    )


def list_labelled_pods(kube: Kube, run: str, schedule: str, clusters: Iterable[str]) -> list[Object]:
    """Return the pods with our label of the run, and those of its submitter and these clusters, newest last.

    Args:
        schedule: see `list_run_pods`.
        clusters: RayClusters of the run.
    """
    selectors = [{RUN_LABEL: run}, {"job-name": run}, *({"ray.io/cluster": cluster} for cluster in clusters)]
    found = {pod["metadata"]["name"]: pod for labels in selectors for pod in kube.list("Pod", labels=labels)}
    run_pods = [pod for pod in found.values() if _belongs_to(pod["metadata"].get("labels", {}), run, schedule)]
    return sorted(run_pods, key=lambda pod: pod["metadata"]["creationTimestamp"])


def alive(run_pods: Iterable[Object]) -> list[Object]:
    """Return those that have not ended."""
    return [pod for pod in run_pods if phase(pod) not in ("succeeded", "failed")]


def _belongs_to(labels: Mapping[str, str], run: str, schedule: str) -> bool:
    label = labels.get(RUN_LABEL)
    named = labels.get("job-name") == run or _is_generated_name(labels.get("ray.io/cluster", ""), run)
    return label == run or (named and label in (None, schedule))


def _is_generated_name(name: str, owner: str) -> bool:
    """Return whether KubeRay gives such names to what it creates for the owner."""
    return bool(re.fullmatch(rf"{re.escape(owner)}-[a-z0-9]{{5}}", name))


def list_submitters(kube: Kube, run: str) -> list[Object]:
    """Return the pods that submit the run's Ray job."""
    return kube.list("Pod", labels={"job-name": run})


def phase(pod: Object) -> str:
    """Return pending (no node), pulling (image or volumes), starting (not ready), running, leaving, or how it ended."""
    seen = pod["status"]
    if pod["metadata"].get("deletionTimestamp"):
        return "leaving"
    if seen.get("phase") in ("Succeeded", "Failed"):
        return str(seen["phase"]).lower()
    if not pod["spec"].get("nodeName"):
        return "pending"
    states = [one["state"] for one in container_statuses(pod)]
    if not states or any("waiting" in one and one["waiting"].get("reason") != "PodInitializing" for one in states):
        return "pulling"
    return "running" if is_ready(pod) else "starting"


def is_ready(pod: Object) -> bool:
    """Return whether all containers of the pod are ready."""
    return any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"].get("conditions", []))


def container_statuses(pod: Object) -> list[Object]:
    """Return the statuses of a pod's init containers and containers."""
    seen = pod["status"]
    return [*seen.get("initContainerStatuses", []), *seen.get("containerStatuses", [])]


def format_counts(run_pods: Iterable[Object]) -> str:
    """`1 pending, 2 running`"""
    phases = [phase(pod) for pod in run_pods]
    return ", ".join(f"{phases.count(one)} {one}" for one in dict.fromkeys(phases))


def blocked_pods(run_pods: Iterable[Object]) -> list[str]:
    """Return why pods do not run, from their status."""
    lines = []
    for pod in run_pods:
        name, seen = pod["metadata"]["name"], pod["status"]
        lines += [
            f"pod {name} is not scheduled: {condition.get('message', condition.get('reason'))}"
            for condition in seen.get("conditions", [])
            if condition["type"] == "PodScheduled" and condition["status"] == "False"
        ]
        for container in container_statuses(pod):
            waiting = container["state"].get("waiting") or {}
            if waiting.get("reason", TRANSIENT[0]) not in TRANSIENT:
                lines.append(f"pod {name} waits: {waiting['reason']}: {waiting.get('message', '')}".rstrip(": "))
            last = container.get("lastState", {}).get("terminated") or container["state"].get("terminated") or {}
            if last.get("reason") == "OOMKilled":
                lines.append(f"pod {name} ran out of memory (OOMKilled): give its pool more resources.limits.memory")
    return lines


def warning_events(kube: Kube, rayjob: Object, run_pods: Iterable[Object]) -> list[str]:
    """Return why the run does not run now, from events of its waiting pods, and of what could not be created.

    Args:
        run_pods: all its pods; only events of those that still wait count, since an event outlives its cause. Of many
            only the first are asked for: the others wait for the same.
    """
    waiting = [pod["metadata"]["name"] for pod in run_pods if phase(pod) in ("pending", "pulling")]
    starting = rayjobs.status(rayjob) in ("New", "Initializing", "Waiting", "Retrying")
    cluster = rayjob.get("status", {}).get("rayClusterName")
    own = [name for name in (rayjob["metadata"]["name"], cluster) if name and starting]
    objects = [*((False, name) for name in own), *((True, name) for name in waiting[:MOST_ASKED])]
    newest: dict[tuple[str, str], Object] = {}
    for (is_pod, name), events in zip(objects, map_parallel(lambda one: _events(kube, one[1]), objects), strict=True):
        for event in sorted(events, key=_event_time):
            if (event["involvedObject"]["kind"] == "Pod") == is_pod:
                newest[name, event.get("reason", "")] = event
    return [_format_event(event) for event in newest.values() if not _is_redundant(event)]


def _events(kube: Kube, name: str) -> list[Object]:
    """Return warnings about the objects of a name: those about all others in a namespace may be thousands."""
    return kube.list("Event", fields={"type": "Warning", "involvedObject.name": name})


def startup_failure(kube: Kube, rayjob: Object) -> list[str]:
    """Return why a run was not ready before its deadline: the newest event of a pod that had no node or no image.

    KubeRay's own message only has times, and its pods are gone. Events stay for an hour, and are found by the names of
    the pods.
    """
    status = rayjob.get("status", {})
    if status.get("reason") != DEADLINE_EXCEEDED:
        return []
    cluster = re.escape(status.get("rayClusterName") or "") or re.escape(rayjob["metadata"]["name"]) + "-[a-z0-9]{5}"
    events = [
        event
        for event in kube.list("Event", fields={"type": "Warning", "involvedObject.kind": "Pod"})
        if re.match(f"{cluster}-", event["involvedObject"]["name"]) and _explains_wait(event)
    ]
    return [_format_event(max(events, key=_event_time))] if events else []


def _explains_wait(event: Object) -> bool:
    """Return whether an event names a missing node or image, and not the deletion of a pod that waits for one."""
    message = event.get("message", "")
    if "deleting pod" in message or message.startswith("Error: "):
        return False
    return event.get("reason") == "FailedScheduling" or "image" in message.lower()


def _format_event(event: Object) -> str:
    about = event["involvedObject"]
    return f"{about['kind']} {about['name']}: {event.get('reason')}: {event.get('message', '')}".rstrip(": ")


def _is_redundant(event: Object) -> bool:
    """Return whether the pod's status has the same message, or it is a conflict of two writers, which passes."""
    message = event.get("message", "")
    return event.get("reason") in ("FailedScheduling", "BackOff") or "object has been modified" in message


def _event_time(event: Object) -> datetime:
    timestamp = event.get("lastTimestamp") or event.get("eventTime") or event["metadata"]["creationTimestamp"]
    return datetime.fromisoformat(timestamp)
