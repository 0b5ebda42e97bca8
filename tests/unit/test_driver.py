"""The driver starts a Ray and calls the task's module on it."""

from __future__ import annotations

from contextlib import nullcontext
from importlib import import_module
from typing import Any

import pytest

from trainer_app import driver
from trainer_app.config import loads
from trainer_app.run import cluster

pytestmark = pytest.mark.unit

RUN_FILE = """
model: {class_path: a.Model}
tune: {metric: m, mode: max, space: {model.init_args.x: {choice: [1]}}}
"""


@pytest.mark.parametrize("task", ["train", "tune"])
def test_each_task_has_its_module(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(cluster, "connected", lambda *_, **__: nullcontext())

    def run(config: Any, **more: Any) -> int:
        calls.append(more)
        return 7

    monkeypatch.setattr(import_module(driver.MODULES[task]), "run", run)
    assert driver.run(task, loads(RUN_FILE), name="r") == 7
    assert calls == [{"name": "r"}]
