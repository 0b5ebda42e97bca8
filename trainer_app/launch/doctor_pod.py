"""`trainer doctor --in-cluster`: a pod with a run's image, Secret, ServiceAccount and policy, and what it reports."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Final

from trainer_app.errors import TrainerError
from trainer_app.formatting import one_line
from trainer_app.launch import pods, rayjobs
from trainer_app.launch.finding import Finding
from trainer_app.launch.kube import Kube, Object, explain_errors

POLL_S: Final = 0.5
NEEDED_KINDS: Final = ("ServiceAccount", "NetworkPolicy", "Secret", "ConfigMap")
# A pod that waits for one of these reasons never starts.
PERMANENT_WAITS: Final = (
    *("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"),
    *("CreateContainerConfigError", "CreateContainerError"),
)
PROBE_RESOURCES: Final = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "512Mi"}}


def run_probe(
    kube: Kube, objects: Sequence[Object], *, deadline: float, image: str = "", say: Callable[[str], None]
) -> Iterator[Finding]:
    """Create the pod with what it needs, yield what it reports, and delete all of it again.

    Args:
        objects: those of a run, of which the pod is a worker.
        deadline: how many seconds to wait for the pod.
        image: repository:tag in place of the run's; "" for the run's.
        say: called with each line for the user.
    """
    if any(obj["kind"] == "PersistentVolumeClaim" for obj in objects):
        message = "storage.claim.size creates a volume with each run, so there is none to check; give claim.existing"
        yield Finding("in-cluster", "warn", message)
        return
    pod = make_probe_pod(objects[-1], image)
    name = pod["metadata"]["name"]
    say(f"checking from pod {name}, for at most {deadline:.0f} s")
    created: list[tuple[str, str]] = []
    try:
        for obj in [*(obj for obj in objects if obj["kind"] in NEEDED_KINDS), pod]:
            kube.create(obj)
            created.append((obj["kind"], obj["metadata"]["name"]))
        yield from _wait_for_findings(kube, name, deadline)
    except TrainerError as error:
        yield Finding("in-cluster", "fail", str(error))
    finally:
        for kind, one in reversed(created):
            with suppress(TrainerError):  # the findings are what counts
                kube.delete(kind, one)


def make_probe_pod(owner: Object, image: str = "") -> Object:
    """Return a pod like the run's workers, which checks the storage instead of starting Ray, and requests no GPU."""
    group = rayjobs.cluster_spec(owner)["workerGroupSpecs"][0]
    template = copy.deepcopy(group["template"])
    spec, run = template["spec"], owner["metadata"]["name"]
    container = spec["containers"][0]
    container["command"], container["args"] = ["python", "-m", "trainer_app.pod.probe"], []
    container["resources"] = PROBE_RESOURCES
    if image:
        container["image"] = image
    spec |= {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1}
    labels = {**group.get("labels", {}), **template.get("metadata", {}).get("labels", {})}
    meta = {"name": f"{run}-probe", "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


def _wait_for_findings(kube: Kube, name: str, deadline: float) -> Iterator[Finding]:
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        pod = kube.get("Pod", name)
        if pod["status"].get("phase") in ("Succeeded", "Failed"):
            yield from _read_findings(kube, name, pod)
            return
        for container in pods.container_statuses(pod):
            waiting = container["state"].get("waiting") or {}
            if waiting.get("reason") in PERMANENT_WAITS:
                image = pod["spec"]["containers"][0]["image"]
                message = one_line(f"{waiting['reason']}: {waiting.get('message', '')}")
                remedy = f"(image {image}); correct image.*, or load it: make kind-load"
                yield Finding("in-cluster", "fail", f"{message} {remedy}")
                return
        time.sleep(POLL_S)
    reasons = pods.blocked_pods([kube.get("Pod", name)]) or ["it did not end"]
    yield Finding("in-cluster", "fail", f"within {deadline:.0f} s: {'; '.join(reasons)}")


def _read_findings(kube: Kube, name: str, pod: Object) -> Iterator[Finding]:
    with explain_errors(f"read the log of {name}", namespace=kube.namespace):
        text = kube.core().read_namespaced_pod_log(name, kube.namespace)
    node = pod["spec"].get("nodeName", "?")
    lines = [line for line in text.splitlines() if line.startswith("{")]
    if not lines:
        last = (text.strip().splitlines() or ["it printed nothing"])[-1]
        yield Finding("in-cluster", "fail", f"the pod on {node} ended: {last}; check that this image has trainer")
    for line in lines:
        report = json.loads(line)
        message = report.get("message", report.get("words"))  # `words`: an older image
        yield Finding(f"in-cluster {report['check']}", "ok" if report["ok"] else "fail", f"{message} (on {node})")
