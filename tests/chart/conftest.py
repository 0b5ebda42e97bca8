"""The chart through the real helm, as parsed objects."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest

from trainer_app.launch import helm
from trainer_app.launch.manifests import load_objects

RUN_FILE = "name: demo\nscaling: {num_workers: 1}\n"
Rendered = dict[str, Any]


@pytest.fixture(autouse=True)
def _helm() -> None:
    if shutil.which("helm") is None:
        pytest.skip("needs helm: not on PATH")


@pytest.fixture
def text() -> Callable[..., str]:
    """`text("pools.cpu.replicas=2", run_file=..., values=("kind",), task="train", name="demo")`"""

    def render(*sets: str, run_file: str | None = None, task: str = "train", name: str = "demo", **more: Any) -> str:
        values = more.get("values", ("kind",))
        if run_file is None:  # a RayCluster takes none
            run_file = "" if "kind=RayCluster" in sets else RUN_FILE
        return helm.template(helm.Release(name, "trainer", task, run_file, f"{name}-1", values, sets))

    return render


@pytest.fixture
def render(text: Callable[..., str]) -> Callable[..., Rendered]:
    """The same as {"<kind>/<name>": object}."""

    def parsed(*sets: str, **more: Any) -> Rendered:
        return {f"{one['kind']}/{one['metadata']['name']}": one for one in load_objects(text(*sets, **more))}

    return parsed


def ray_cluster(thing: Any) -> Any:
    """The RayCluster's spec in an object of any of the three kinds; None: its job runs on another release's."""
    spec = thing["spec"].get("jobTemplate", thing["spec"])
    return spec if thing["kind"] == "RayCluster" else spec.get("rayClusterSpec")


def pod_templates(thing: Any) -> dict[str, Any]:
    """The pods of a RayJob, RayCluster or RayCronJob by role: head, submitter, and each pool by its name."""
    job = thing["spec"].get("jobTemplate", thing["spec"])
    submitter = {"submitter": job["submitterPodTemplate"]} if "submitterPodTemplate" in job else {}
    cluster = ray_cluster(thing)
    if cluster is None:
        return submitter
    pools = {group["groupName"]: group["template"] for group in cluster["workerGroupSpecs"]}
    return {"head": cluster["headGroupSpec"]["template"], **submitter, **pools}


def environment(pod: Any) -> dict[str, str]:
    """Of a pod's first container: {name: value}."""
    return {one["name"]: one.get("value", "") for one in pod["spec"]["containers"][0].get("env", [])}
