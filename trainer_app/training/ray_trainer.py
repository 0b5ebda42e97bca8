"""Ray's TorchTrainer for a run, and the run file's blocks as its arguments.

The controller and a nested trial's driver import this module: it stays free of Lightning, which takes 2.5 s of a core.
"""

from __future__ import annotations

import math
from typing import Any

import ray
import ray.train
from ray.train.torch import TorchConfig, TorchTrainer

from trainer_app import ray_compat
from trainer_app.config import RunConfig
from trainer_app.run import cluster
from trainer_app.run.spec import RunSpec
from trainer_app.training.failures import RunFailurePolicy


class RunTrainer(TorchTrainer):
    """TorchTrainer with our failure policy, which leaves Ctrl-C to the caller and then aborts its workers."""

    def __init__(self, *args: Any, spec: RunSpec, trial: str | None = None, mailbox: Any = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.spec, self.trial, self.mailbox = spec, trial, mailbox

    def _initialize_and_run_controller(self, **kwargs: Any) -> ray.train.Result:
        kwargs["failure_policy"] = RunFailurePolicy(self.run_config.failure_config, self.spec, self.trial, self.mailbox)
        return super()._initialize_and_run_controller(**kwargs)

    def _create_default_callbacks(self) -> list[Any]:
        """Leave out Ray's cleaner of placement groups: one more process; tuning/placement_groups.py does its work."""
        ours: list[Any] = super()._create_default_callbacks()
        return [callback for callback in ours if not isinstance(callback, ray_compat.PlacementGroupCleanerCallback)]

    def _register_sigint_handler(self, controller: Any) -> None:
        self.controller = controller

    def fit(self) -> ray.train.Result:
        """Run the workers; on Ctrl-C abort them first.

        Raises:
            KeyboardInterrupt: after they were aborted. ray.train.TrainingFailedError: the workers failed for good.
        """
        try:
            return super().fit()
        except KeyboardInterrupt:
            controller = getattr(self, "controller", None)
            if controller is not None and not ray.wait([controller.abort.remote()], timeout=5)[0]:
                ray.kill(controller)  # it does not answer while it waits for the workers' resources
            raise


def scaling_config(config: RunConfig) -> ray.train.ScalingConfig:
    """Return `scaling` as Ray's ScalingConfig. A GPU worker reserves no CPU unless asked to: 1 here."""
    s = config.scaling
    return ray.train.ScalingConfig(
        num_workers=s.num_workers,
        use_gpu=s.use_gpu is True,
        resources_per_worker=s.worker_resources,
        accelerator_type=s.accelerator_type,
        placement_strategy=s.placement_strategy,
    )


def accelerator(config: RunConfig) -> dict[str, float]:
    """`scaling.accelerator_type` as the resource that Ray gives a node of that kind, for what has no ScalingConfig."""
    kind = config.scaling.accelerator_type
    return {f"{cluster.ACCELERATOR}{kind}": 0.001} if kind else {}


def checkpoint_config(config: RunConfig, *, task: str = "train") -> ray.train.CheckpointConfig:
    """Return `checkpoint` as Ray's CheckpointConfig; the run's own commits follow the same policy."""
    metric, mode = config.selection_metric(task)
    return ray.train.CheckpointConfig(
        num_to_keep=config.checkpoint.keep, checkpoint_score_attribute=metric, checkpoint_score_order=mode or "max"
    )


def failure_config(config: RunConfig) -> ray.train.FailureConfig:
    """Return `failure` as Ray's FailureConfig."""
    return ray.train.FailureConfig(**config.failure.model_dump(exclude={"storage_timeout_s"}))


def torch_config(config: RunConfig) -> TorchConfig:
    """Return the process group's backend and time-out in seconds, if the run file gives them, as Ray's TorchConfig."""
    s = config.scaling
    timeout = {} if s.timeout_s is None else {"timeout_s": math.ceil(s.timeout_s)}
    return TorchConfig(backend=s.process_group_backend, **timeout)


def run_config(
    config: RunConfig, spec: RunSpec, callbacks: list[Any], *, trial: str | None = None
) -> ray.train.RunConfig:
    """Return Ray's RunConfig. Ray's own files stay in a scratch folder: commits and records do not pass through it.

    Args:
        callbacks: of Ray Train's controller.
        trial: the nested trial that the workers train, None for a train run.
    """
    return ray.train.RunConfig(
        name=f"train-trial_id={trial}" if trial else spec.run,
        storage_path=cluster.scratch_folder(spec.run),
        failure_config=failure_config(config),
        checkpoint_config=checkpoint_config(config, task="tune" if trial else "train"),
        callbacks=callbacks,
    )
