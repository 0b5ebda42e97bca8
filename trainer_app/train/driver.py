"""`trainer train`: one distributed fit with Ray Train."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray
import ray.train

from trainer_app import lightning_cli, results
from trainer_app.checkpoint import Commit, list_commits
from trainer_app.config import RunConfig, dump
from trainer_app.errors import LeaseLostError, TrainerError
from trainer_app.records import FitFolder, RunFolder
from trainer_app.run import cluster, identity, lease, prepare, stop
from trainer_app.run.deadlines import Deadlines
from trainer_app.run.retry import describe_error, ends_run
from trainer_app.run.spec import RunSpec
from trainer_app.run.watch import Watch
from trainer_app.storage import Store, open_store
from trainer_app.train import evaluate
from trainer_app.train.failures import ends_training, root_cause
from trainer_app.train.ray_trainer import (
    RunTrainer,
    accelerator,
    run_config,
    scaling_config,
    torch_config,
    worker_resources,
)
from trainer_app.train.relay import Emit, Mailbox, Relay, relaying_events


def run(config: RunConfig, *, name: str, resume: bool, emit: Emit, log: str | None, test: bool = False) -> int:
    """Train `config` as run `name`.

    Args:
        test: score the best checkpoint on the test split at the end.

    Returns:
        the exit code: 0 trained to its end, 1 failed, 130 stopped because somebody asked for it (`trainer stop`).

    Raises:
        InputError, StorageError: before anything was started. LeaseHeldError: another driver is at work on the run.
        DeadlineError, LeaseLostError: see `run.watch.Watch`.
        KeyboardInterrupt: after the run was recorded as interrupted.
    """
    lightning_cli.check(config)
    store = open_store(config.storage.uri)
    with cluster.connected():
        folder, config = opened(store, config, name=name, resume=resume, task="train", check=check_scaling)
        emit(results.start_event(folder, config, log=log, resumed=resume))
        untested = None
        with recorded(folder, store, emit, lambda: lacking(config)) as watch:
            fit(config, folder, prepare.run_spec(folder, store, config), watch.emit)
            if test and folder.record.state == "succeeded":
                untested = tested(store, name, watch.emit)
        if untested:
            raise untested
        return EXIT_CODES[folder.record.state]


EXIT_CODES = {"succeeded": 0, "failed": 1, "interrupted": 130}
NOWHERE: dict[str, Any] = {"epochs": 0, "step": 0, "commit": None}


def tested(store: Store, name: str, emit: Emit) -> TrainerError | None:
    """Test the best checkpoint. What prevents it is returned: the run itself has succeeded."""
    try:
        emit(evaluate.test(store, name))
    except Exception as e:  # noqa: BLE001 - whatever the user's test raises: training has succeeded
        return TrainerError(f"the run succeeded, its test did not: {describe_error(e)}")
    return None


def opened(
    store: Store, config: RunConfig, *, name: str, resume: bool, task: str, check: Callable[[RunConfig], Any]
) -> tuple[RunFolder, RunConfig]:
    """A new run, or an existing one for its next attempt, with the run file that it goes by.

    Args:
        check: raises if the cluster can't give what the run file asks for; called before anything is written.
    """
    if not resume:
        prepare.check_name_free(store, name, task=task)
        settled, chosen = prepare.resolve_choices(config)
        check(settled)
        return prepare.create_run(store, settled, chosen, name=name, task=task), settled
    folder, config = prepare.reopen_run(store, config, name=name, task=task)
    check(config)
    lease.acquire(folder.store, identity.current_submission())
    if identity.current_submission() is None:
        stop.withdraw_request(folder.store)  # a person goes on with it; the launcher does this itself
    folder.update(
        state="running",
        submission=identity.current_submission() or folder.record.submission,
        final=False,
        exit_code=None,
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


def lacking(config: RunConfig) -> str:
    return cluster.missing_resources(worker_resources(config), config.scaling.num_workers, "the workers need")


@contextmanager
def recorded(folder: RunFolder, store: Store, emit: Emit, lacking: Callable[[], str] = lambda: "") -> Iterator[Watch]:
    """Whatever ends the attempt, the run's record says so, and the last event is the end's.

    Meanwhile the run's lease is this driver's, and deadlines and requests to stop are looked after.

    Args:
        lacking: what the run waits for, in words.
    """
    started = time.monotonic()
    watch = watch_of(folder, emit, lacking)
    try:
        with watch:
            yield watch
    except (KeyboardInterrupt, SystemExit):
        if watch.error is None:
            folder.update(state="interrupted")
            raise
        failed(folder, watch.error)
        raise watch.error from None
    except Exception as e:
        failed(folder, watch.error or e)
        if watch.error is not None:
            raise watch.error from e
        raise
    finally:
        if not isinstance(watch.error, LeaseLostError):
            found = results.read_run(store, folder.name)
            folder.update(done=found.done, best=found.best.value if found.best else None)
            emit(results.end_event(folder, found, time.monotonic() - started))
        lease.release(folder.store)


def watch_of(folder: RunFolder, emit: Emit, lacking: Callable[[], str]) -> Watch:
    """Takes the lease, if this process does not have it yet."""
    deadlines = Deadlines.from_env()
    begun = deadlines.first_step is None or any("metrics/" in entry.key for entry in folder.store.list())
    held = lease.acquire(folder.store, identity.current_submission())
    return Watch(folder.store, held, emit, deadlines=deadlines, begun=begun, missing=lacking)


def failed(folder: RunFolder, error: Exception) -> None:
    """Record the error; not where another driver has the run."""
    if isinstance(error, LeaseLostError):
        return
    text = "".join(traceback.format_exception(error))
    code = error.exit_code if isinstance(error, TrainerError) else 1
    folder.update(state="failed", error=describe_error(error), traceback=text, final=ends_run(error), exit_code=code)


def fit(config: RunConfig, folder: RunFolder, spec: RunSpec, emit: Emit) -> ray.train.Result:
    """Run the workers until they finish, fail for good, or stop because somebody asked for it; the record says which.

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
        error=describe_error(root_cause(error)) if error else None,
        traceback=str(error) if error else None,
        final=bool(error and ends_training(error)),
    )
    if stopped:
        stop.write_answer(folder.store, stopped_at(folder.fit_folder()))
    return to_ray_result(folder, error)


def stopped_at(fit_folder: FitFolder) -> dict[str, Any]:
    """Where a unit goes on: finished epochs, steps, and the commit's name."""
    newest = list_commits(fit_folder.checkpoints)[-1:]
    if not newest:
        return NOWHERE
    return {"epochs": newest[0].manifest.epochs, "step": newest[0].manifest.step, "commit": newest[0].name}


def train_worker(config: dict[str, Any]) -> bool:
    """The function that each worker runs. Returns whether it stopped before its end because somebody asked for it."""
    from trainer_app.train import worker

    spec: RunSpec = config["spec"]
    return worker.fit_with_ray(spec.load(), spec, trial=None, report=ray.train.report)


def to_ray_result(folder: RunFolder, error: ray.train.TrainingFailedError | None) -> ray.train.Result:
    """What storage holds of a train run, as Ray's Result."""
    fit_folder = folder.fit_folder()
    lines = fit_folder.read_metrics()
    pairs = [(to_ray_checkpoint(c), dict(c.manifest.metrics)) for c in list_commits(fit_folder.checkpoints)]
    return ray.train.Result(
        metrics=lines[-1]["metrics"] if lines else None,
        checkpoint=pairs[-1][0] if pairs else None,
        error=error,
        path=folder.uri,
        best_checkpoints=pairs,
    )


def to_ray_checkpoint(commit: Commit) -> ray.train.Checkpoint:
    return ray.train.Checkpoint(commit.uri)
