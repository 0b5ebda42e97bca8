"""A trial of several workers: its process starts a Train run and passes the reports to Tune."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

import ray.train
from ray import tune
from ray.util import queue

from trainer_app import ray_compat
from trainer_app.config import override
from trainer_app.errors import StorageUnavailableError
from trainer_app.run import cluster
from trainer_app.run.spec import RunSpec
from trainer_app.training import ray_trainer
from trainer_app.training.failures import failure_record, root_cause
from trainer_app.tuning.objective import STOPPED, objective, reporting_silence
from trainer_app.tuning.placement_groups import TagPlacementGroups
from trainer_app.tuning.trainable import WAITS_S, is_ending
from trainer_app.user_errors import plain_errors

POLL_S = 0.2


@reporting_silence()
def run_nested(params: dict[str, Any], spec: RunSpec, controllers: Any, prefix: str) -> None:
    """Run a trial as a Train run; Tune calls this.

    A failure is reported as the trial's result, not raised: Tune would take it for a lost process and retry.

    Args:
        params: the trial's parameters, {dotted key: value}.
        controllers, prefix: those of `placement_groups.NestedTrialResources`.
    """
    trial = tune.get_context().get_trial_id()
    config = override(spec.load(), params)
    arrivals = queue.Queue(1, actor_options=cluster.same_node_options())
    callbacks = [Reports(arrivals), TagPlacementGroups(controllers, prefix, trial), SendFiles()]
    nested = ray_trainer.RunTrainer(
        nested_worker,
        spec=spec,
        trial=trial,
        train_loop_config={"spec": spec, "params": params, "trial": trial},
        scaling_config=ray_trainer.scaling_config(config),
        run_config=ray_trainer.run_config(config, spec, callbacks, trial=trial),
        torch_config=ray_trainer.torch_config(config),
    )
    try:
        for metrics in iter_reports(nested.fit, arrivals):
            tune.report(metrics)
    except SystemExit:
        end_workers(controllers, trial, arrivals)
        raise
    except ray.train.TrainingFailedError as error:
        print(f"trial {trial} failed:\n{error}", file=sys.stderr, flush=True)
        if isinstance(cause := root_cause(error), StorageUnavailableError):
            raise cause from error
        tune.report({**failure_record(error), "epochs": 0, "done": True})


class Reports(ray.train.UserCallback):
    """A callback in Ray's controller that hands each report of rank 0 to the trial's process and waits for it.

    Not Ray's TuneReportCallback: its reports go to Tune beside those of the trial's own thread, through a queue of one
    place. If the driver was slower with one result than the controller with its end, the last report found the
    trial's end in that place, and the trial never returned (Ray 2.60, `_TrainSession._get_result_from_queues`).
    """

    def __init__(self, arrivals: queue.Queue) -> None:
        self.arrivals = arrivals

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        self.arrivals.put(metrics[0])


class SendFiles(ray_compat.WorkerGroupCallback):
    """A callback in Ray's controller that lets the workers send what they wrote, before they are killed."""

    worker_group: Any = None

    def after_worker_group_start(self, worker_group: Any) -> None:
        self.worker_group = worker_group

    def before_worker_group_abort(self, worker_group_context: Any) -> None:
        sending = self.worker_group.execute_async(send_files)
        ray.wait(sending, num_returns=len(sending), timeout=WAITS_S)


def send_files() -> None:
    """Send what the fit of this worker has written so far."""
    from trainer_app.training import files

    files.send_files()


def end_workers(controllers: Any, trial: str, arrivals: queue.Queue) -> None:
    """End a trial's workers, once they have sent what they wrote; wait WAITS_S at most.

    Args:
        controllers: the `ControllerRegistry`.
        arrivals: the reports of the trial, which are left: a controller that waits to hand one over does not end.
    """
    ends = [handles[0].abort.remote() for _, handles in ray.get(controllers.get.remote(trial))]
    deadline = time.monotonic() + WAITS_S
    while ends and time.monotonic() < deadline:
        ends = ray.wait(ends, timeout=POLL_S)[1]
        with suppress(queue.Empty):
            arrivals.get(block=False)


def iter_reports(fit: Callable[[], Any], arrivals: queue.Queue) -> Iterator[dict[str, Any]]:
    """Yield the reports that arrive while `fit` runs in a thread, up to the last.

    Raises:
        SystemExit: Tune ends the trial.
        Exception: what `fit` raised.
    """
    done: Future[None] = Future()

    def run() -> None:
        try:
            fit()
            done.set_result(None)
        except BaseException as error:  # noqa: BLE001 - raised again in the trial's own thread
            done.set_exception(error)

    threading.Thread(target=run, name="fit", daemon=True).start()
    while True:
        if is_ending():
            sys.exit()
        over = done.done()  # asked first: nothing arrives after it
        try:
            yield arrivals.get(block=not over, timeout=POLL_S)
        except queue.Empty:
            if over:
                done.result()
                return


def nested_worker(config: dict[str, Any]) -> None:
    """Fit in one worker of a nested trial, and report to Ray Train."""
    with plain_errors():
        _fit_nested(**config)


def _fit_nested(spec: RunSpec, params: dict[str, Any], trial: str) -> None:
    from trainer_app.training import worker

    run_file = override(spec.load(), params)

    def report(result: dict[str, Any]) -> None:
        value = objective(run_file, result)  # the same on every rank
        if value is not None:
            ray.train.report({**result, "objective": value})

    if worker.fit_with_ray(run_file, spec, trial=trial, report=report):
        ray.train.report(STOPPED)
