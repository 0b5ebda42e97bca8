"""The processes of trials: what they import early, and what Tune must not put into their environment."""

from __future__ import annotations

import os
from collections.abc import Mapping

from trainer_app import ray_compat
from trainer_app.config import RunConfig

TRIAL = "trainer_app.tuning.trial"  # torch, Lightning and Ray Tune: 4 s of imports


def prewarm_env(config: RunConfig) -> dict[str, str]:
    """Return the environment of a local Ray whose idle processes import what a trial needs while the driver gets ready.

    Ray starts a process for each CPU at once. It sets OMP_NUM_THREADS when it gives a process its work, too late for
    a torch that is imported already: every trial took all cores, and a sweep of 20 s took over 10 minutes.
    """
    if config.has_nested_trials:
        return {}  # Ray Train starts their processes with an environment of their own
    paths = [block.get("class_path") for block in (config.model, config.data) if isinstance(block, Mapping)]
    modules = [path.rpartition(".")[0] for path in paths if isinstance(path, str) and "." in path]
    return {
        "RAY_preload_python_modules": ",".join(dict.fromkeys([TRIAL, *modules])),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS") or str(max(1, int(config.trial_resources["CPU"]))),
    }


def disable_env_propagation() -> None:
    """Keep Tune from giving the actors of trials a runtime environment of their own.

    Tune 2.60 puts AWS_SECRET_ACCESS_KEY and other variables of the driver into it (ray/tune/execution/class_cache.py);
    from there they get into the arguments of the process that sets it up, and into Ray's logs. Our processes have
    their environment from the pod or the machine. And a trial without one can use processes that Ray has started.
    """
    ray_compat.class_cache.ENV_VARS_TO_PROPAGATE.clear()
    ray_compat.class_cache.DEFAULT_ENV_VARS.clear()
