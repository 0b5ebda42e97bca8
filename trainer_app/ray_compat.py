"""Every private name of Ray, Train and Tune that is used or replaced. `ray_compat.NAME` imports it on demand.

Names without members are imported from here. Classes with members are public or get here from Ray: what is overridden,
called or read of them is listed. tests/unit/test_compat.py fails with the reason of a name that an upgrade removes.
"""

from __future__ import annotations

from typing import Any, Final

from trainer_app.private_names import PrivateName, load_name

READ_IN: Final = {"ray": "2.60.0"}

_EXECUTION = "ray.train.v2._internal.execution"

NAMES: Final = (
    # Train: failures of workers
    PrivateName(
        f"{_EXECUTION}.failure_handling.default", "DefaultFailurePolicy", "an error that comes twice is not retried"
    ),
    PrivateName(f"{_EXECUTION}.failure_handling.failure_policy", "FailureDecision", "what a failure policy answers"),
    PrivateName("ray.train.v2._internal.exceptions", "RayTrainError", "tells a lost worker from its code's error"),
    PrivateName(
        "ray.train.v2._internal.exceptions",
        "UserExceptionWithTraceback",
        "the exception of the user's code, in the wrapping of workers",
        ("_base_exc",),
    ),
    PrivateName(
        "ray.train.v2._internal.exceptions",
        "WorkerHealthCheckFailedError",
        "the exception of a lost worker",
        ("health_check_failure",),
    ),
    # Train: the controller
    PrivateName(
        "ray.train.torch",
        "TorchTrainer",
        "passes our failure policy, leaves Ctrl-C to the driver, leaves out Ray's cleaner of placement groups",
        ("_initialize_and_run_controller", "_create_default_callbacks", "_register_sigint_handler"),
    ),
    PrivateName(
        "ray.train.v2._internal.callbacks.placement_group_callback",
        "PlacementGroupCleanerCallback",
        "left out: one more process a run, which fails where two Rays run on one machine",
    ),
    PrivateName(f"{_EXECUTION}.callback", "ControllerCallback", "makes a nested trial's controller known"),
    PrivateName(
        f"{_EXECUTION}.worker_group",
        "worker_group",
        "its `placement_group` is replaced, so that groups have their trial's name and can be removed",
    ),
    # Core: nested trials that are over
    PrivateName("ray._private.state", "actors", "whether a killed controller is dead"),
    PrivateName("ray._raylet", "PlacementGroupID", "removes a placement group that is known by its number"),
    # Tune
    PrivateName("ray.tune.execution", "class_cache", "its variables are cleared: Tune copied secrets into logs"),
    PrivateName("ray.tune.experiment.config_parser", "_create_trial_from_spec", "trials named by their index"),
    PrivateName("ray.tune.experiment.config_parser", "_make_parser", "argument of _create_trial_from_spec"),
    PrivateName("ray.tune.search", "SearchAlgorithm", "says that no more trials come", ("_finished",)),
    PrivateName(
        "ray.tune.schedulers",
        "AsyncHyperBandScheduler",
        "ends a trial whose value is NaN, and says why a trial was stopped",
        ("_trial_info", "_max_t", "_num_stopped", "_metric_op", "_reduction_factor"),
    ),
    PrivateName("ray.tune.schedulers.async_hyperband", "_Bracket", "the cut-off of a rung", ("_rungs", "cutoff")),
    PrivateName(
        "ray.tune.schedulers",
        "HyperBandScheduler",
        "ends a finished bracket's other trials, which would wait for ever",
        ("_trial_info", "_max_t_attr"),
    ),
    PrivateName(
        "ray.tune.schedulers",
        "PopulationBasedTraining",
        "saves every trial that clones no other, and lets none clone at its end",
        ("_checkpoint_or_exploit", "_save_trial_state", "_trial_state"),
    ),
)


def __getattr__(name: str) -> Any:
    return load_name(NAMES, name, READ_IN)
