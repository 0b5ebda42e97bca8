"""`trainer train`: one distributed fit with Ray Train."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray
import ray.train

from trainer_app import cluster, components, evaluate, prepare, results
from trainer_app.checkpoint import Commit, commits
from trainer_app.config import RunConfig, dump
from trainer_app.errors import TrainerError
from trainer_app.failures import one_line, root_cause
from trainer_app.job import Job
from trainer_app.ray_trainer import RunTrainer, accelerator, run_config, scaling_config, torch_config, worker_resources
from trainer_app.records import RunFolder
from trainer_app.relay import Emit, Mailbox, Relay, relayed
from trainer_app.storage import Store, open_store


def run(config: RunConfig, *, name: str, resume: bool, emit: Emit, log: str | None, test: bool = False) -> int:
    """Train `config` as run `name`.

    Args:
        test: score the best checkpoint on the test split at the end.

    Returns:
        the exit code: 0 trained to its end, 1 failed.

    Raises:
        InputError, StorageError: before anything was started.
        KeyboardInterrupt: after the run was recorded as interrupted.
    """
    components.check(config)
    store = open_store(config.storage.uri)
    with cluster.connected():
        folder, config = opened(store, config, name=name, resume=resume, task="train", check=check_scaling)
        emit(start_event(folder, config, log=log, resumed=resume))
        with recorded(folder, store, emit):
            result = fit(config, folder, prepare.job(folder, store, config), emit)
            untested = tested(store, name, emit) if test and result.error is None else None
        if untested:
            raise untested
        return 0 if result.error is None else 1


def tested(store: Store, name: str, emit: Emit) -> TrainerError | None:
    """Test the best checkpoint. What prevents it is returned: the run itself has succeeded."""
    try:
        emit(evaluate.test(store, name))
    except Exception as e:  # noqa: BLE001 - whatever the user's test raises: training has succeeded
        return TrainerError(f"the run succeeded, its test did not: {one_line(e)}")
    return None


def opened(
    store: Store, config: RunConfig, *, name: str, resume: bool, task: str, check: Callable[[RunConfig], Any]
) -> tuple[RunFolder, RunConfig]:
    """A new run, or an existing one for its next attempt, with the run file that it goes by.

    Args:
        check: raises if the cluster can't give what the run file asks for; called before anything is written.
    """
    if not resume:
        prepare.absent(store, name, task=task)
        settled, chosen = prepare.settle(config)
        check(settled)
        return prepare.create(store, settled, chosen, name=name, task=task), settled
    folder, config = prepare.reopen(store, config, name=name, task=task)
    check(config)
    folder.update(
        state="running",
        use_gpu=bool(config.scaling.use_gpu),
        attempt=folder.record.attempt + 1,
        error=None,
        traceback=None,
        epochs=prepare.target_epochs(config),
        num_samples=config.tune.num_trials if config.tune and task == "tune" else None,
    )
    folder.rewrite_config(dump(config))  # the next resume goes on with what this one changed
    return folder, config


def check_scaling(config: RunConfig) -> None:
    wanted = {**worker_resources(config), **accelerator(config)}
    cluster.check_feasible(wanted, config.scaling.num_workers, "the workers need")


@contextmanager
def recorded(folder: RunFolder, store: Store, emit: Emit) -> Iterator[None]:
    """Whatever ends the attempt, the run's record says so, and the last event is the end's."""
    started = time.monotonic()
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        folder.update(state="interrupted")
        raise
    except Exception as e:
        folder.update(state="failed", error=one_line(e), traceback=traceback.format_exc())
        raise
    finally:
        found = results.read_run(store, folder.name)
        folder.update(done=found.done, best=found.best.value if found.best else None)
        emit(end_event(folder, found, time.monotonic() - started))


def fit(config: RunConfig, folder: RunFolder, job: Job, emit: Emit) -> ray.train.Result:
    """Run the workers until they finish or fail for good.

    Returns:
        Ray's Result: `metrics` of the last epoch, `checkpoint` the newest commit, `best_checkpoints` all that stay,
        `path` the run in storage, `error` Ray's TrainingFailedError or None.
    """
    mailbox = ray.remote(num_cpus=0)(Mailbox).remote()
    error = None
    with relayed(mailbox, emit):
        trainer = RunTrainer(
            train_worker,
            job=job,
            mailbox=mailbox,
            train_loop_config={"job": job},
            scaling_config=scaling_config(config),
            run_config=run_config(config, job, [Relay(mailbox)]),
            torch_config=torch_config(config),
        )
        try:
            trainer.fit()
        except ray.train.TrainingFailedError as e:
            error = e
    folder.update(
        state="failed" if error else "succeeded",
        error=one_line(root_cause(error)) if error else None,
        traceback=str(error) if error else None,
    )
    return as_result(folder, error)


def train_worker(config: dict[str, Any]) -> None:
    """The function that each worker runs."""
    from trainer_app import worker

    job: Job = config["job"]
    worker.fit_with_ray(job.load(), job, trial=None, report=ray.train.report)


def as_result(folder: RunFolder, error: ray.train.TrainingFailedError | None) -> ray.train.Result:
    """What storage holds of a train run, as Ray's Result."""
    unit = folder.unit()
    lines = unit.metrics()
    pairs = [(as_ray(c), dict(c.manifest.metrics)) for c in commits(unit.checkpoints)]
    return ray.train.Result(
        metrics=lines[-1]["metrics"] if lines else None,
        checkpoint=pairs[-1][0] if pairs else None,
        error=error,
        path=folder.uri,
        best_checkpoints=pairs,
    )


def as_ray(commit: Commit) -> ray.train.Checkpoint:
    return ray.train.Checkpoint(commit.uri)


# --- what a person is told


def start_event(folder: RunFolder, config: RunConfig, *, log: str | None, resumed: bool) -> dict[str, Any]:
    record = folder.record
    return {
        "event": "run",
        "run": record.name,
        "task": record.task,
        "uri": folder.uri,
        "log": log,
        "attempt": record.attempt,
        "resumed": resumed,
        "notes": list(config.notes),
        "epochs": record.epochs,
        "metric": record.metric,
        "mode": record.mode,
    }


def end_event(folder: RunFolder, found: results.RunResults, seconds: float) -> dict[str, Any]:
    record = folder.record
    return {
        "event": "end",
        "run": record.name,
        "state": record.state,
        "seconds": round(seconds, 1),
        "best": found.summary,
        "error": record.error,
        "uri": folder.uri,
    }
