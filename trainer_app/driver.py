"""The driver of a run: Ray is started while torch and Lightning are imported.

On 2 cores ray.init takes 4 s, in which it waits for processes of its own, and the imports take 3.5 s.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from trainer_app.config import RunConfig
from trainer_app.run import cluster
from trainer_app.tuning import prewarm

HEAVY = ("torch", "lightning.pytorch")
MODULES = {"train": "trainer_app.training.driver", "tune": "trainer_app.tuning.sweep"}


def run(task: str, config: RunConfig, **more: Any) -> int:
    """Call `run` of the task's module, with Ray connected.

    Args:
        task: train or tune.
        config: the run file.
        more: further arguments of the module's `run`.

    Returns:
        The exit code of the command.
    """
    local = prewarm.prewarm_env(config) if task == "tune" else {}
    with cluster.connected(local, meanwhile=HEAVY):
        code: int = import_module(MODULES[task]).run(config, **more)
        return code
