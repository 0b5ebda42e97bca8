"""`trainer train`: one distributed fit with Ray Train."""

from __future__ import annotations

from typing import Any

import ray
import ray.train

from trainer_app import lightning_cli
from trainer_app.checkpoint import list_commits
from trainer_app.config import RunConfig
from trainer_app.records import RunFolder
from trainer_app.run import cluster, stop
from trainer_app.run.attempt import Work, run_attempt, stop_position
from trainer_app.run.spec import RunSpec
from trainer_app.run.watch import Emit, Watch
from trainer_app.training import evaluate, find
from trainer_app.training.failures import ends_training, failure_record
from trainer_app.training.ray_trainer import RunTrainer, accelerator, run_config, scaling_config, torch_config
from trainer_app.training.relay import Mailbox, Relay, relaying_events
from trainer_app.user_errors import plain_errors


def run(config: RunConfig, *, name: str, resume: bool, emit: Emit, log: str | None, test: bool = False) -> int:
    """Train `config` as run `name`.

    Args:
        resume: whether it is the next attempt of a run that exists.
        emit: takes each event of the run.
        log: the path of the driver's log, for the first event; None if it goes to stderr.
        test: score the best checkpoint on the test split at the end.

    Returns:
        the exit code: 0 trained to its end, 1 failed, 130 stopped by a request (`trainer stop`).

    Raises:
        InputError, StorageError, LeaseHeldError: before anything was started.
        DeadlineError, LeaseLostError: see `run.watch.Watch`.
        KeyboardInterrupt: after the run was recorded as interrupted.
    """
    lightning_cli.check_code(config)
    find.check_keys(config)
    work = Work("train", check_scaling, missing_resources, run_workers, evaluate.test)
    return run_attempt(config, work, name=name, resume=resume, emit=emit, log=log, test=test)


def run_workers(config: RunConfig, folder: RunFolder, spec: RunSpec, watch: Watch) -> None:
    """Fit the model; the run's record says how that ended."""
    config, spec = find.find_values(config, folder, spec, watch.emit)
    fit(config, folder, spec, watch.emit)


def check_scaling(config: RunConfig) -> None:
    """Check that the cluster can hold the run's workers.

    Raises:
        InputError: it can never do so; the resource is named.
    """
    wanted = {**config.scaling.worker_resources, **accelerator(config)}
    cluster.check_feasible(wanted, config.scaling.num_workers, "the workers need")


def missing_resources(config: RunConfig) -> str:
    """Return which resources of the workers this Ray does not have now, in words; "" if none."""
    return cluster.missing_resources(config.scaling.worker_resources, config.scaling.num_workers, "the workers need")


def fit(config: RunConfig, folder: RunFolder, spec: RunSpec, emit: Emit) -> ray.train.Result:
    """Run the workers until they finish, fail or stop by a request; the record says which.

    Args:
        folder: the run's, opened for this attempt.
        spec: what the workers get.
        emit: takes the events that the workers report.

    Returns:
        Ray's Result: `metrics` of the last epoch, `checkpoint` the newest commit, `best_checkpoints` all that stay,
        `path` the run in storage, `error` Ray's TrainingFailedError or None.
    """
    mailbox = ray.remote(**cluster.same_node_options())(Mailbox).remote()
    error, stopped = None, False
    with relaying_events(mailbox, emit):
        trainer = RunTrainer(
            train_worker,
            spec=spec,
            mailbox=mailbox,
            train_loop_config={"spec": spec},
            scaling_config=scaling_config(config),
            run_config=run_config(config, spec, [Relay(mailbox)]),
            torch_config=torch_config(config),
        )
        try:
            stopped = bool(trainer.fit().return_value)
        except ray.train.TrainingFailedError as e:
            error = e
    folder.update(
        state="failed" if error else "interrupted" if stopped else "succeeded",
        **(failure_record(error) if error else {"error": None, "traceback": None}),
        final=bool(error and ends_training(error)),
    )
    if stopped:
        stop.write_answer(folder.run_store, stop_position(folder))
    return to_ray_result(folder, error)


def train_worker(config: dict[str, Any]) -> bool:
    """Fit in one worker. Return whether it stopped before its end because a user asked for it."""
    with plain_errors():
        from trainer_app.training import worker

        spec: RunSpec = config["spec"]
        return worker.fit_with_ray(spec.load(), spec, trial=None, report=ray.train.report)


def to_ray_result(folder: RunFolder, error: ray.train.TrainingFailedError | None) -> ray.train.Result:
    """Return what storage has of a train run as Ray's Result."""
    fit_folder = folder.fit_folder()
    lines = fit_folder.read_metrics()
    pairs = [(ray.train.Checkpoint(c.uri), dict(c.manifest.metrics)) for c in list_commits(fit_folder.checkpoints)]
    return ray.train.Result(
        metrics=lines[-1]["metrics"] if lines else None,
        checkpoint=pairs[-1][0] if pairs else None,
        error=error,
        path=folder.uri,
        best_checkpoints=pairs,
    )
