"""`trainer doctor --in-cluster`: one pod with a run's image, Secret, ServiceAccount and policy, and what it finds."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Final

from trainer_app.errors import TrainerError
from trainer_app.launch import pods, rayjob
from trainer_app.launch.doctor import Finding
from trainer_app.launch.kube import Kube, Object, explained

POLL_S: Final = 0.5
NEEDED: Final = ("ServiceAccount", "NetworkPolicy", "Secret", "ConfigMap")
# A pod that waits for one of these will wait for ever.
HOPELESS: Final = (
    *("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"),
    *("CreateContainerConfigError", "CreateContainerError"),
)
SMALL: Final = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "512Mi"}}


def probe(
    kube: Kube, things: Sequence[Object], *, deadline: float, image: str = "", say: Callable[[str], None]
) -> Iterator[Finding]:
    """Creates the pod with what it needs, waits, and removes all of it again.

    Args:
        deadline: seconds until it is given up.
    """
    if any(thing["kind"] == "PersistentVolumeClaim" for thing in things):
        words = "storage.claim.size makes a volume with each run: none is there before; give claim.existing"
        yield Finding("in-cluster", "warn", words)
        return
    pod = pod_of(things[-1], image)
    name = pod["metadata"]["name"]
    say(f"probing with pod {name}, for at most {deadline:.0f} s")
    made: list[tuple[str, str]] = []
    try:
        for thing in [*(thing for thing in things if thing["kind"] in NEEDED), pod]:
            kube.create(thing)
            made.append((thing["kind"], thing["metadata"]["name"]))
        yield from _findings(kube, name, deadline)
    except TrainerError as error:
        yield Finding("in-cluster", "fail", str(error))
    finally:
        for kind, one in reversed(made):
            with suppress(TrainerError):  # what was found is what counts
                kube.delete(kind, one)


def pod_of(owner: Object, image: str = "") -> Object:
    """A worker of the run, which asks the storage in place of starting Ray, and needs no GPU for that."""
    group = rayjob.cluster_spec(owner)["workerGroupSpecs"][0]
    template = copy.deepcopy(group["template"])
    spec, run = template["spec"], owner["metadata"]["name"]
    container = spec["containers"][0]
    container["command"], container["args"] = ["python", "-m", "trainer_app.pod.probe"], []
    container["resources"] = SMALL
    if image:
        container["image"] = image
    spec |= {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1}
    labels = {**group.get("labels", {}), **template.get("metadata", {}).get("labels", {})}
    meta = {"name": f"{run}-probe", "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


def _findings(kube: Kube, name: str, deadline: float) -> Iterator[Finding]:
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        pod = kube.get("Pod", name)
        if pod["status"].get("phase") in ("Succeeded", "Failed"):
            yield from _said(kube, name, pod)
            return
        for container in pods.containers(pod):
            waiting = container["state"].get("waiting") or {}
            if waiting.get("reason") in HOPELESS:
                image = pod["spec"]["containers"][0]["image"]
                words = " ".join(f"{waiting['reason']}: {waiting.get('message', '')}".split())
                yield Finding(
                    "in-cluster", "fail", f"{words} (image {image}); correct image.*, or load it: make kind-load"
                )
                return
        time.sleep(POLL_S)
    held = [*pods.stuck([kube.get("Pod", name)])] or ["it did not end"]
    yield Finding("in-cluster", "fail", f"within {deadline:.0f} s: {'; '.join(held)}")


def _said(kube: Kube, name: str, pod: Object) -> Iterator[Finding]:
    with explained(f"read the log of {name}", kind="Pod", name=name, namespace=kube.namespace):
        text = kube.core().read_namespaced_pod_log(name, kube.namespace)
    node = pod["spec"].get("nodeName", "?")
    lines = [line for line in text.splitlines() if line.startswith("{")]
    if not lines:
        last = (text.strip().splitlines() or ["it said nothing"])[-1]
        yield Finding("in-cluster", "fail", f"the pod on {node} ended: {last}; is trainer in this image?")
    for line in lines:
        about = json.loads(line)
        yield Finding(f"in-cluster {about['check']}", "ok" if about["ok"] else "fail", f"{about['words']} (on {node})")
