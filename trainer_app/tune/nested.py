"""A trial of several workers: its process starts a Train run, and passes its reports on to Tune."""

from __future__ import annotations

import sys
from typing import Any

import ray.train
from ray import tune
from ray.tune.integration.ray_train import TuneReportCallback

from trainer_app import ray_trainer
from trainer_app.config import override
from trainer_app.failures import one_line, root_cause
from trainer_app.job import Job
from trainer_app.tune.groups import Named
from trainer_app.tune.objective import STOPPED, objective


def run_nested(params: dict[str, Any], job: Job, controllers: Any, prefix: str) -> None:
    """What Tune runs; `controllers` and `prefix` are those of `groups.Holds`.

    A failure is the trial's result: raised, it would count as a lost process and be retried.
    """
    trial = tune.get_context().get_trial_id()
    config = override(job.load(), params)
    callbacks = [TuneReportCallback(), Named(controllers, prefix, trial)]
    nested = ray_trainer.RunTrainer(
        nested_worker,
        job=job,
        trial=trial,
        train_loop_config={"job": job, "params": params, "trial": trial},
        scaling_config=ray_trainer.scaling_config(config),
        run_config=ray_trainer.run_config(config, job, callbacks, name=f"train-trial_id={trial}"),
        torch_config=ray_trainer.torch_config(config),
    )
    try:
        nested.fit()
    except ray.train.TrainingFailedError as error:
        print(f"trial {trial} failed:\n{error}", file=sys.stderr, flush=True)
        tune.report({"error": one_line(root_cause(error)), "traceback": str(error), "epochs": 0, "done": True})


def nested_worker(config: dict[str, Any]) -> None:
    """The function that each worker runs."""
    from trainer_app import worker

    job: Job = config["job"]
    run_file = override(job.load(), config["params"])

    def report(result: dict[str, Any]) -> None:
        value = objective(run_file, result)  # the same on every rank
        if value is not None:
            ray.train.report({**result, "objective": value})

    if worker.fit_with_ray(run_file, job, trial=config["trial"], report=report):
        ray.train.report(STOPPED)
