"""The driver of a sweep: resources, Tune, and how it ended."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from functools import partial
from typing import Any

import ray
from ray import tune

from trainer_app import lightning_cli
from trainer_app.config import RunConfig, require_tune
from trainer_app.records import RunFolder, TrialRecord
from trainer_app.run import cluster, prepare, stop
from trainer_app.run.attempt import Work, run_attempt, stop_position
from trainer_app.run.spec import RunSpec
from trainer_app.run.watch import Emit, Watch
from trainer_app.storage_uri import join_uri
from trainer_app.training import evaluate
from trainer_app.training.ray_trainer import accelerator
from trainer_app.tuning import placement_groups, prewarm, schedulers, trainable
from trainer_app.tuning.nested import run_nested
from trainer_app.tuning.pbt_checks import check_mutations
from trainer_app.tuning.plan import plan_search
from trainer_app.tuning.recorder import LOST, StopWhenIdle, SweepRecorder, trial_event
from trainer_app.tuning.search import ResumableSearch


def run(config: RunConfig, *, name: str, resume: bool, emit: Emit, log: str | None, test: bool = False) -> int:
    """Run the sweep of `config` as run `name`.

    Args:
        resume: whether it is the next attempt of a run that exists.
        emit: takes each event of the run.
        log: the path of the driver's log, for the first event; None if it goes to stderr.
        test: score the best checkpoint on the test split at the end.

    Returns:
        the exit code: 0 if at least one trial gave a result, 1 if all failed, 130 if the sweep was asked to stop.

    Raises:
        InputError, StorageError, LeaseHeldError: before anything was started.
        DeadlineError, LeaseLostError: see `run.watch.Watch`.
        KeyboardInterrupt: after the run was recorded as interrupted.
    """
    require_tune(config)
    lightning_cli.check_code(config)
    lightning_cli.check_space(config)
    check_mutations(config)
    if require_tune(config).searcher.kind == "optuna":
        from trainer_app.tuning.study import check_searcher

        check_searcher(config)
    prewarm.disable_env_propagation()
    work = Work("tune", concurrency, missing_resources, run_trials, evaluate.test)
    return run_attempt(config, work, name=name, resume=resume, emit=emit, log=log, test=test)


def run_trials(config: RunConfig, folder: RunFolder, spec: RunSpec, watch: Watch) -> None:
    """Run what is left of the sweep; the run's record says how that ended."""
    records = sweep(config, folder, spec, watch)
    total = require_tune(config).num_trials
    record_outcome(folder, records, stopped=watch.stopping.is_set() and is_unfinished(records, total))


def is_unfinished(records: Mapping[str, TrialRecord], total: int | None) -> bool:
    """Return whether trials are left; `total` None means without bound."""
    return total is None or len(records) < total or not all(r.is_over for r in records.values())


def record_outcome(folder: RunFolder, records: Mapping[str, TrialRecord], *, stopped: bool = False) -> None:
    """Record how the sweep ended.

    Args:
        records: of all trials, by trial.
        stopped: whether a request ended it, with trials left.
    """
    if stopped:
        folder.update(state="interrupted", error=None)
        stop.write_answer(folder.run_store, stop_position(folder, records.values()))
        return
    failed = [r for r in records.values() if r.state == "failed"]
    bad = bool(failed) and len(failed) == len(records)
    error = f"all {len(failed)} trials failed; the first: {failed[0].error}" if bad else None
    folder.update(
        state="failed" if bad else "succeeded", error=error, final=bad and any(r.error != LOST for r in failed)
    )


def missing_resources(config: RunConfig) -> str:
    """Return which resources of a trial this Ray does not have now, in words; "" if none."""
    return cluster.missing_resources(config.trial_resources, 1, "a trial needs")


def sweep(config: RunConfig, folder: RunFolder, spec: RunSpec, watch: Watch) -> dict[str, TrialRecord]:
    """Run what is left of the sweep.

    Args:
        watch: takes the events, and says whether to stop.

    Returns:
        the records of all trials, of earlier attempts too, by trial.
    """
    tuning = require_tune(config)
    records = {r.trial: r for r in folder.read_trials()}
    scheduler = schedulers.build(config, epochs=prepare.target_epochs(config))
    planned = plan_search(config, folder, records, scheduler, concurrency=concurrency(config), stopping=watch.stopping)
    for record in filter(lambda record: record.is_over, records.values()):
        watch.emit(trial_event(record, record.best))
    if planned.is_finished():
        return records
    nested_resources = placement_groups.NestedTrialResources() if config.has_nested_trials else None
    recorder = SweepRecorder(
        folder,
        watch.emit,
        mode=tuning.mode,
        scheduler=scheduler,
        records=records,
        stopping=watch.stopping,
        nested_resources=nested_resources,
    )
    # Tune starts the trials of a search algorithm that is not its own one after the other by default
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(concurrency(config))
    # Warns with all trials' names that the files of Tune's own loggers are missing: the run's records replace them
    logging.getLogger("ray.tune.analysis.experiment_analysis").setLevel(logging.ERROR)
    try:
        make_tuner(config, spec, planned, scheduler, recorder, nested_resources).fit()
        recorder.close_unfinished()
        recorder.flush()
        planned.close()
    finally:
        if nested_resources:
            nested_resources.close()
    return records


def make_tuner(
    config: RunConfig,
    spec: RunSpec,
    planned: ResumableSearch,
    scheduler: Any,
    recorder: SweepRecorder,
    nested_resources: Any,
) -> tune.Tuner:
    """Return Ray's Tuner for the planned trials.

    Args:
        recorder: Tune's callback that writes the trials' records.
        nested_resources: a `NestedTrialResources` if trials are nested, else None.
    """
    trainable.wait_for_last_trials()
    function, reuse = make_trainable(config, spec, nested_resources)
    return tune.Tuner(
        function,
        tune_config=tune.TuneConfig(
            search_alg=planned,
            scheduler=scheduler,
            num_samples=planned.total_samples or -1,
            reuse_actors=reuse,
            time_budget_s=require_tune(config).time_budget_s,
        ),
        run_config=tune.RunConfig(
            name=spec.run,
            storage_path=storage_path(config, spec),
            failure_config=tune.FailureConfig(max_failures=config.failure.max_failures),
            callbacks=[recorder],
            stop=StopWhenIdle(recorder),
            verbose=0,
        ),
    )


# --- resources


def concurrency(config: RunConfig) -> int:
    """Return how many trials run at once: `max_concurrent_trials`, at most what the cluster's resources allow.

    Raises:
        InputError: not even one trial fits; both amounts are named.
    """
    wanted, have = config.trial_resources, cluster.max_resources()
    what = "one trial's workers need" if config.has_nested_trials else "a trial needs"
    cluster.check_feasible({**wanted, **accelerator(config)}, 1, what)
    fits = min((int(have[name] / each + 1e-9) for name, each in wanted.items() if each > 0), default=1)
    asked = require_tune(config).max_concurrent_trials
    return fits if asked is None else min(asked, fits)


def run_trial(params: dict[str, Any], spec: RunSpec) -> None:
    """Run a trial of one worker; torch and Lightning are imported in its process."""
    from trainer_app.tuning import trial

    trial.run(params, spec)


def make_trainable(config: RunConfig, spec: RunSpec, nested_resources: Any) -> tuple[Any, bool]:
    """Make the function that Tune runs, with its resources.

    A nested trial's process waits in its Train run and does not return from it: it ends with the trial.

    Args:
        nested_resources: a `NestedTrialResources` if trials are nested, else None.

    Returns:
        the function, and whether its process may be used again for the next trial.
    """
    if not config.has_nested_trials:
        single: Any = partial(run_trial, spec=spec)
        single.__mixins__ = (trainable.EndsWithItsThread,)  # bases of the class that Tune makes of it
        resources = {**config.trial_resources, **accelerator(config)}
        return tune.with_resources(single, resources), require_tune(config).reuse_processes
    held = {cluster.TRIAL_DRIVER: 1.0} if cluster.max_resources().get(cluster.TRIAL_DRIVER) else {"CPU": 0.001}
    driver = tune.PlacementGroupFactory([{"CPU": 0.0, **held}])
    function: Any = partial(
        run_nested, spec=spec, controllers=nested_resources.controllers, prefix=nested_resources.prefix
    )
    function.__mixins__ = (trainable.EndsWithItsThread,)
    return tune.with_resources(function, driver), False


def storage_path(config: RunConfig, spec: RunSpec) -> str:
    """Return where Tune keeps its own files: scratch, but for PBT on several nodes, which clones through them."""
    if require_tune(config).scheduler.kind != "pbt" or len([n for n in ray.nodes() if n["Alive"]]) == 1:
        return cluster.scratch_folder(spec.run)
    return join_uri(spec.uri, f"{spec.run}/ray")
