"""Every private name of Ray, Train and Tune that is used or replaced. `ray_compat.NAME` imports it on demand.

Names without members are imported from here. Classes with members are public or get here from Ray: what is overridden,
called or read of them is listed. tests/unit/test_compat.py fails with the reason of a name that an upgrade removes.
"""

from __future__ import annotations

from typing import Any, Final

from trainer_app.private_names import PrivateName as P
from trainer_app.private_names import load_name

READ_IN: Final = {"ray": "2.60.0"}
_TRAIN: Final = "ray.train.v2._internal"
_EXECUTION: Final = f"{_TRAIN}.execution"
_PARSER: Final = "ray.tune.experiment.config_parser"
_SCHEDULERS: Final = "ray.tune.schedulers"

NAMES: Final = (
    # Train: failures of workers
    P(f"{_EXECUTION}.failure_handling.default", "DefaultFailurePolicy", "an error that comes twice is not retried"),
    P(f"{_EXECUTION}.failure_handling.failure_policy", "FailureDecision", "what a failure policy answers"),
    P(f"{_TRAIN}.exceptions", "RayTrainError", "tells a lost worker from an error of its code"),
    P(f"{_TRAIN}.exceptions", "UserExceptionWithTraceback", "what the user's code raised in a worker", "_base_exc"),
    P(f"{_TRAIN}.exceptions", "WorkerHealthCheckFailedError", "why a worker was lost", "health_check_failure"),
    # Train: the controller
    P(
        "ray.train.torch",
        "TorchTrainer",
        "our failure policy, no cleaner of groups; Ctrl-C is left to the driver",
        "_initialize_and_run_controller _create_default_callbacks _register_sigint_handler",
    ),
    P(
        f"{_TRAIN}.callbacks.placement_group_callback",
        "PlacementGroupCleanerCallback",
        "left out: one more process a run, which fails if two Rays run on one machine",
    ),
    P(f"{_EXECUTION}.callback", "ControllerCallback", "registers the controller of a nested trial"),
    P(
        f"{_EXECUTION}.callback",
        "WorkerGroupCallback",
        "the workers of a nested trial send their files before they are killed",
        "after_worker_group_start before_worker_group_abort",
    ),
    P(f"{_EXECUTION}.worker_group", "worker_group", "its `placement_group` is replaced: groups get their trial's name"),
    # Core: nested trials that are over
    P("ray._private.state", "actors", "whether a killed controller is dead"),
    P("ray._raylet", "PlacementGroupID", "removes a placement group that is known by its number"),
    # Tune
    P("ray.tune.execution", "class_cache", "its lists of variables are cleared: Tune copied secrets into Ray's logs"),
    P(_PARSER, "_create_trial_from_spec", "names trials by their index"),
    P(_PARSER, "_make_parser", "an argument of _create_trial_from_spec"),
    P("ray.train._internal.session", "get_session", "what ends the thread that a trial's function runs in"),
    P("ray.train._internal.session", "_TrainSession", "the same: its class", "finish stop_event"),
    P(
        "ray.tune.execution.tune_controller",
        "TuneController",
        "the end of a sweep's last trials is awaited",
        "_actor_force_cleanup_timeout",
    ),
    P("ray.tune", "tune", "the same: its `TuneController` is replaced"),
    P("ray.tune.trainable.function_trainable", "FunctionTrainable", "a trial's end is awaited", "cleanup reset_config"),
    P("ray.tune.search", "SearchAlgorithm", "says that no more trials come", "_finished"),
    P(
        _SCHEDULERS,
        "AsyncHyperBandScheduler",
        "ends a trial whose value is NaN; says why a trial was stopped",
        "_brackets _trial_info _max_t _num_stopped _metric_op _reduction_factor",
    ),
    P(f"{_SCHEDULERS}.async_hyperband", "_Bracket", "the cut-off of a rung", "_rungs cutoff"),
    P(_SCHEDULERS, "HyperBandScheduler", "ends a finished bracket's other trials", "_trial_info _max_t_attr"),
    P(
        _SCHEDULERS,
        "PopulationBasedTraining",
        "saves every trial that clones no other; none clones at its end",
        "_checkpoint_or_exploit _save_trial_state _trial_state",
    ),
    P(f"{_SCHEDULERS}.pb2", "PB2", "changes nothing where its process can't learn", "_get_new_config"),
    P(
        "ray.tune.search.optuna",
        "OptunaSearch",
        "learns from several metrics; keeps its study; knows earlier trials",
        "_completed_trials _ot_study _ot_trials _space",
    ),
)


def __getattr__(name: str) -> Any:
    return load_name(NAMES, name, READ_IN)
