"""`trainer train`: one distributed fit with Ray Train."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
import ray.train
from ray.train.lightning import RayDDPStrategy, RayLightningEnvironment, prepare_trainer
from ray.train.torch import TorchConfig, TorchTrainer

from trainer_app import cluster, components, evaluate, prepare, results, worker
from trainer_app.checkpoint import Commit, commits
from trainer_app.config import RunConfig
from trainer_app.failures import NotTwice, one_line, root_cause
from trainer_app.prepare import Emit
from trainer_app.records import RunFolder
from trainer_app.storage import open_store
from trainer_app.worker import Job

POLL_S = 0.1


def run(
    config: RunConfig, *, name: str, resume: bool, emit: Emit, log: str | None, test: bool = False
) -> int:
    """Train `config` as run `name`.

    Returns:
        the exit code: 0 trained to its end, 1 failed.

    Raises:
        InputError, StorageError: before anything was started.
        KeyboardInterrupt: after the run was recorded as interrupted.
    """
    components.check(config)
    store = open_store(config.storage.uri)
    with cluster.connected():
        folder, config = opened(store, config, name=name, resume=resume, task="train")
        emit(
            {
                "event": "run",
                "run": name,
                "task": "train",
                "uri": folder.uri,
                "log": log,
                "attempt": folder.record.attempt,
                "resumed": resume,
                "notes": list(config.notes),
                "epochs": folder.record.epochs,
                "metric": folder.record.metric,
            }
        )
        with recorded(folder, store.uri, emit):
            result = fit(config, folder, prepare.job(folder, store, config), emit)
            if test and result.error is None:
                emit(evaluate.test(store.uri, name))
        return 0 if result.error is None else 1


def opened(store: Any, config: RunConfig, *, name: str, resume: bool, task: str) -> tuple[RunFolder, RunConfig]:
    """A new run, or an existing one for its next attempt, with the run file that it goes by."""
    if resume:
        folder, config = prepare.reopen(store, config, name=name, task=task)
        check_scaling(config)
        folder.update(
            state="running", attempt=folder.record.attempt + 1, error=None, traceback=None,
            epochs=prepare.target_epochs(config),
            num_samples=config.tune.num_samples if config.tune and task == "tune" else None,
        )
        return folder, config
    settled, chosen = prepare.settle(config)
    check_scaling(settled)
    return prepare.create(store, settled, chosen, name=name, task=task), settled


def check_scaling(config: RunConfig) -> None:
    scaling = scaling_config(config)
    cluster.check_feasible(scaling._resources_per_worker_not_none, config.scaling.num_workers, "the workers")


@contextmanager
def recorded(folder: RunFolder, storage: str, emit: Emit) -> Iterator[None]:
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
        emit(end_event(folder, storage, time.monotonic() - started))


def fit(config: RunConfig, folder: RunFolder, job: Job, emit: Emit) -> ray.train.Result:
    """Run the workers until they finish or fail for good.

    Returns:
        Ray's Result: `metrics` of the last epoch, `checkpoint` the newest commit, `best_checkpoints` all that stay,
        `path` the run in storage, `error` Ray's TrainingFailedError or None.
    """
    mailbox = Mailbox.remote()
    error = None
    with relayed(mailbox, emit):
        trainer = RunTrainer(
            train_worker,
            job=job,
            train_loop_config={"job": job},
            scaling_config=scaling_config(config),
            run_config=ray_run_config(config, job, [Relay(mailbox)]),
            torch_config=torch_config(config),
        )
        try:
            trainer.fit()
        except ray.train.TrainingFailedError as e:
            error = e
    cause = root_cause(error) if error else None
    folder.update(
        state="failed" if error else "succeeded",
        error=one_line(cause) if cause else None,
        traceback=str(error) if error else None,
    )
    return as_result(folder, error)


class RunTrainer(TorchTrainer):
    """TorchTrainer with our failure policy, that leaves Ctrl-C to the caller and aborts its workers when it comes."""

    def __init__(self, *args: Any, job: Job, trial: str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.job = job
        self.trial = trial

    def _initialize_and_run_controller(self, **kwargs: Any) -> ray.train.Result:
        kwargs["failure_policy"] = NotTwice(self.run_config.failure_config, self.job, self.trial)
        return super()._initialize_and_run_controller(**kwargs)

    def _register_sigint_handler(self, controller: Any) -> None:
        self.controller = controller

    def fit(self) -> ray.train.Result:
        try:
            return super().fit()
        except KeyboardInterrupt:
            controller = getattr(self, "controller", None)
            if controller is not None:
                ray.wait([controller.abort.remote()], timeout=10)
            raise


def train_worker(config: dict[str, Any]) -> None:
    """The function that each worker runs."""
    job: Job = config["job"]
    worker.check_device(job)
    fit_in_worker(job.load(), job, trial=None, report=ray.train.report)


def fit_in_worker(config: RunConfig, job: Job, *, trial: str | None, report: worker.Report) -> None:
    """One rank's part of a fit, with Ray's strategy and environment."""
    kwargs: dict[str, Any] = {
        "devices": "auto",
        "num_nodes": 1,
        "accelerator": "gpu" if job.use_gpu else "cpu",
        "plugins": [RayLightningEnvironment()],
    }
    if not config.trainer.get("strategy"):
        kwargs["strategy"] = RayDDPStrategy()
    worker.fit(
        config,
        job.unit(trial),
        policy=worker.policy(config, job),
        report=report,
        trainer_kwargs=kwargs,
        prepare=prepare_trainer,
    )


# --- the run file's blocks as Ray's


def scaling_config(config: RunConfig) -> ray.train.ScalingConfig:
    """`scaling` as Ray's ScalingConfig. A GPU worker reserves no CPU unless told: it is told 1."""
    s = config.scaling
    wanted = dict(s.resources_per_worker or {})
    wanted.setdefault("CPU", 1)
    if s.use_gpu is True:
        wanted.setdefault("GPU", 1)
    return ray.train.ScalingConfig(
        num_workers=s.num_workers,
        use_gpu=s.use_gpu is True,
        resources_per_worker=wanted,
        accelerator_type=s.accelerator_type,
        placement_strategy=s.placement_strategy,
    )


def checkpoint_config(config: RunConfig) -> ray.train.CheckpointConfig:
    """`checkpoint` as Ray's CheckpointConfig; the run's own commits follow the same policy."""
    c = config.checkpoint
    return ray.train.CheckpointConfig(
        num_to_keep=c.keep, checkpoint_score_attribute=c.monitor, checkpoint_score_order=c.mode or "max"
    )


def failure_config(config: RunConfig) -> ray.train.FailureConfig:
    """`failure` as Ray's FailureConfig."""
    f = config.failure
    return ray.train.FailureConfig(max_failures=f.max_failures, controller_failure_limit=f.controller_failure_limit)


def torch_config(config: RunConfig) -> TorchConfig:
    """The process group: backend and time-out, in seconds, where the run file gives them."""
    s = config.scaling
    backend = s.process_group_backend
    return TorchConfig(backend=backend) if s.timeout_s is None else TorchConfig(backend=backend, timeout_s=int(s.timeout_s))


def ray_run_config(config: RunConfig, job: Job, callbacks: list[Any], *, name: str | None = None) -> ray.train.RunConfig:
    """Ray keeps its own bookkeeping in a scratch folder: the run's commits and records never pass through it."""
    return ray.train.RunConfig(
        name=name or job.run,
        storage_path=cluster.scratch(job.run),
        failure_config=failure_config(config),
        checkpoint_config=checkpoint_config(config),
        callbacks=callbacks,
    )


# --- from the controller to the driver


@ray.remote(num_cpus=0)
class Mailbox:
    """Events on their way from Ray's controller to the driver."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def put(self, event: dict[str, Any]) -> None:
        self.events.append(event)

    def drain(self) -> list[dict[str, Any]]:
        events, self.events = self.events, []
        return events


class Relay(ray.train.UserCallback):
    """Runs in Ray's controller: turns reports and failures into events."""

    def __init__(self, mailbox: Any) -> None:
        self.mailbox = mailbox

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        for event in report_events(metrics[0], None):
            self.mailbox.put.remote(event)

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        rank, error = next(iter(worker_exceptions.items()))
        self.mailbox.put.remote({"event": "retry", "trial": None, "reason": f"worker {rank}: {one_line(error)}"})


def report_events(report: dict[str, Any], trial: str | None) -> list[dict[str, Any]]:
    """A worker's report as events: the epoch, and the checkpoint if one was committed."""
    place = {"trial": trial, "epoch": report["epochs"] - 1, "step": report["steps"]}
    events = [{"event": "epoch", **place, "metrics": report["metrics"], "elapsed": report["elapsed"]}]
    if report["uri"]:
        events.append({"event": "checkpoint", **place, "uri": report["uri"]})
    return events


@contextmanager
def relayed(mailbox: Any, emit: Emit) -> Iterator[None]:
    """Emit what arrives in the mailbox, until the block ends and the mailbox is empty."""
    over = threading.Event()

    def pump() -> None:
        while True:
            last = over.is_set()
            for event in ray.get(mailbox.drain.remote()):
                emit(event)
            if last:
                return
            over.wait(POLL_S)

    thread = threading.Thread(target=pump, name="events", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=10)


# --- what a person is told


def as_result(folder: RunFolder, error: Exception | None) -> ray.train.Result:
    unit = folder.unit()
    lines = unit.metrics()
    kept = commits(unit.checkpoints)
    pairs = [(as_ray(c), dict(c.manifest.metrics)) for c in kept]
    return ray.train.Result(
        metrics=lines[-1]["metrics"] if lines else None,
        checkpoint=pairs[-1][0] if pairs else None,
        error=error,
        path=folder.uri,
        best_checkpoints=pairs,
    )


def as_ray(commit: Commit) -> ray.train.Checkpoint:
    return ray.train.Checkpoint(commit.uri)


def end_event(folder: RunFolder, storage: str, seconds: float) -> dict[str, Any]:
    record = folder.record
    found = results.load(storage, record.name)
    return {
        "event": "end",
        "run": record.name,
        "state": record.state,
        "seconds": round(seconds, 1),
        "best": evaluate.best(found),
        "error": record.error,
        "uri": folder.uri,
    }
