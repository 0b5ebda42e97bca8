"""The chart through the real helm, as parsed objects."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest

from trainer_app.launch import helm
from trainer_app.launch.submit import objects

RUN_FILE = "name: demo\nscaling: {num_workers: 1}\n"
Rendered = dict[str, Any]


@pytest.fixture(autouse=True)
def _helm() -> None:
    if shutil.which("helm") is None:
        pytest.skip("needs helm: not on PATH")


@pytest.fixture
def text() -> Callable[..., str]:
    """`text("pools.cpu.replicas=2", run_file=..., values=("kind",), task="train", name="demo")`"""

    def render(*sets: str, run_file: str = RUN_FILE, task: str = "train", name: str = "demo", **more: Any) -> str:
        values = more.get("values", ("kind",))
        return helm.template(helm.Release(name, "trainer", task, run_file, f"{name}-1", values, sets))

    return render


@pytest.fixture
def render(text: Callable[..., str]) -> Callable[..., Rendered]:
    """The same as {"<kind>/<name>": object}."""

    def parsed(*sets: str, **more: Any) -> Rendered:
        return {f"{one['kind']}/{one['metadata']['name']}": one for one in objects(text(*sets, **more))}

    return parsed


def pod_templates(rayjob: Any) -> dict[str, Any]:
    """The pods of a RayJob by role: head, submitter, and each pool by its name."""
    cluster = rayjob["spec"]["rayClusterSpec"]
    return {
        "head": cluster["headGroupSpec"]["template"],
        "submitter": rayjob["spec"]["submitterPodTemplate"],
        **{group["groupName"]: group["template"] for group in cluster["workerGroupSpecs"]},
    }
