"""What runs inside a worker or a trial: build the parts of a run file, resume from the newest commit, fit."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback
from ray.train.lightning import RayDDPStrategy, RayLightningEnvironment

from trainer_app import checkpoint as ckpt
from trainer_app import lightning_cli
from trainer_app.callbacks import ranks
from trainer_app.callbacks.epoch import EpochReporter, Policy
from trainer_app.callbacks.rank_watch import RankWatch
from trainer_app.checkpoint.leftovers import remove_leftovers
from trainer_app.checkpoint.loading import allow_globals
from trainer_app.config import RunConfig
from trainer_app.errors import TrainerError
from trainer_app.records import FitFolder, parse_part_key
from trainer_app.run import logs, stop
from trainer_app.run.spec import RunSpec
from trainer_app.temporary import temporary_folder
from trainer_app.training import loggers
from trainer_app.training.files import keep_files
from trainer_app.training.start import Origin, Start, find_start, load_weights
from trainer_app.training.strategies import prepare_load, prepare_trainer, when_configured
from trainer_app.user_errors import FitProgress, plain_errors

Report = Callable[[dict[str, Any]], None]
Prepare = Callable[[Any], Any]

# A run has checkpoints and a log of its own. These give way to what the user's parts set or need.
QUIET = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}


def policy(config: RunConfig, spec: RunSpec, *, task: str, every_epoch: bool = False, keep_at_least: int = 1) -> Policy:
    """Return when to commit and what to keep.

    Args:
        task: train or tune, which decides what the best commits are.
        every_epoch: commit after every epoch, for schedulers that pause or clone trials.
        keep_at_least: the fewest commits to keep.
    """
    c = config.checkpoint
    monitor, mode = config.selection_metric(task)
    return Policy(
        every_n_epochs=1 if every_epoch else c.every_n_epochs,
        keep=None if c.keep is None else max(c.keep, keep_at_least),
        monitor=monitor,
        monitor_key="checkpoint.monitor" if monitor == c.monitor and task != "tune" else "tune.metric",
        needs_monitor=task == "tune",
        mode=mode,
        allow=tuple(c.allow),
        versions=spec.versions,
        stop=stop.StopPoll(spec.run_store(), spec.driver),
    )


def fit(
    config: RunConfig,
    fit_folder: FitFolder,
    *,
    policy: Policy,
    report: Report,
    trainer_kwargs: dict[str, Any],
    origin: Origin | None = None,
    callbacks: Sequence[Callback] = (),
    prepare: Prepare | None = None,
    progress: FitProgress | None = None,
    logged_as: loggers.Fit | None = None,
) -> bool:
    """Train `config` to its end, from the newest intact commit of `fit_folder` if there is one.

    Args:
        policy, report: see EpochReporter.
        trainer_kwargs, callbacks: override the run file's `trainer`, and are added to its callbacks.
        origin: downloads the checkpoint to start from instead of the newest of `fit_folder` (a PBT exploit).
        prepare: called with the Trainer before it fits (Ray's prepare_trainer).
        progress: is told how far the fit came, for `plain_errors`.
        logged_as: the run and the trial that the loggers' runs are named after.

    Returns:
        whether it stopped before its end, at a commit, because `policy.stop` asked for it.
    """
    progress = progress or FitProgress()
    config, recorders = loggers.name_runs(config, fit_folder, logged_as)
    callbacks = [*callbacks, *recorders]
    reporter = make_reporter(fit_folder, policy, report)
    with temporary_folder("fit") as tmp:
        start = find_start(config, fit_folder, Path(tmp, "from"), origin=origin)
        reporter.resumed, progress.resumed = start.resumed, start.resumed is not None
        parts = lightning_cli.build_parts(config, trainer_kwargs=trainer_kwargs, callbacks=callbacks, defaults=QUIET)
        progress.trainer = parts.trainer
        if start.weights:
            when_configured(parts.trainer, parts.model, lambda: load_weights(parts.model, config, str(start.weights)))
        parts.trainer.callbacks.insert(0, reporter)  # first: commits what other callbacks counted once
        _fit_parts(parts, start, policy, prepare)
    return reporter.stopped


def _fit_parts(parts: lightning_cli.Parts, start: Start, policy: Policy, prepare: Prepare | None) -> None:
    if prepare:
        prepare(parts.trainer)
    with allow_globals(policy.allow), logs.send_at_end(), loggers.ended_runs(parts.trainer):
        path = prepare_load(parts.trainer, start.commit, Path(str(start.path))) if start.commit else start.path
        source: dict[str, Any] = {"ckpt_path": path, "weights_only": start.weights_only}
        parts.trainer.fit(parts.model, datamodule=parts.datamodule, **source)


def make_reporter(fit_folder: FitFolder, policy: Policy, report: Report) -> EpochReporter:
    """Return the reporter of a new attempt; only rank 0 reads what earlier ones wrote, since only it writes.

    Args:
        policy: when to commit, and what to keep.
        report: called after each epoch, see EpochReporter.
    """
    if ranks.get_rank() != 0:
        return EpochReporter(fit_folder, attempt=1, policy=policy, report=report)
    lines, attempt = fit_folder.read_metrics(), fit_folder.take_attempt(after=last_attempt(fit_folder))
    remove_leftovers(fit_folder, attempt)
    elapsed = lines[-1]["elapsed"] if lines else 0.0
    return EpochReporter(fit_folder, attempt=attempt, policy=policy, report=report, elapsed=elapsed)


def fit_with_ray(config: RunConfig, spec: RunSpec, *, trial: str | None, report: Report) -> bool:
    """Do one rank's part of a fit.

    Several workers, or a strategy in the run file, use Ray's strategy and environment; one worker is one device.

    Args:
        trial: the nested trial that is trained, None for a train run.
        report: called after each epoch, see EpochReporter.

    Returns:
        as `fit`: whether it stopped before its end, because a user asked for it.
    """
    check_device(spec)
    kwargs = one_device(spec)
    distributed = config.scaling.num_workers > 1 or bool(config.trainer.get("strategy"))
    if distributed:
        kwargs.pop("strategy")
        kwargs["devices"] = "auto"
        if config.trainer.get("plugins"):
            config = add_plugin(config, "ray.train.lightning.RayLightningEnvironment")
        else:
            kwargs["plugins"] = [RayLightningEnvironment()]
        if not config.trainer.get("strategy"):
            kwargs["strategy"] = RayDDPStrategy()
    progress, watch = FitProgress(), RankWatch() if ranks.get_world_size() > 1 else None
    fit_rank = functools.partial(
        fit,
        config,
        spec.fit_folder(trial),
        policy=policy(config, spec, task="tune" if trial else "train"),
        report=report,
        trainer_kwargs=kwargs,
        callbacks=[watch] if watch else [],
        logged_as=(spec.run, trial),
        prepare=prepare_trainer if distributed else None,
        progress=progress,
    )
    with plain_errors(progress), keep_files(config, spec, trial, progress):
        return watch.run(fit_rank) if watch else fit_rank()


def one_device(spec: RunSpec) -> dict[str, Any]:
    """Return the Trainer arguments of a fit in this process alone, as plain Lightning does it."""
    accelerator = "gpu" if spec.use_gpu else "cpu"
    return {"devices": 1, "num_nodes": 1, "strategy": "auto", "accelerator": accelerator}


def add_plugin(config: RunConfig, class_path: str) -> RunConfig:
    """Return the run file with one more plugin."""
    plugins = config.trainer["plugins"]
    plugins = [*(plugins if isinstance(plugins, list) else [plugins]), {"class_path": class_path}]
    return config.model_copy(update={"trainer": {**config.trainer, "plugins": plugins}})


def last_attempt(fit_folder: FitFolder) -> int:
    """Return the newest attempt that wrote metrics or a commit; 0 if there is none."""
    wrote = [order[0] for e in fit_folder.store.list("metrics") if (order := parse_part_key(e.key))]
    committed = [ckpt.attempt_of_commit(name) for name in fit_folder.checkpoints.list_folders()]
    return max([0, *wrote, *committed])


def check_device(spec: RunSpec) -> None:
    """Check that a worker that is to use a GPU has a CUDA device.

    Raises:
        TrainerError: it has none; the node is named, in place of Lightning's traceback.
    """
    if spec.use_gpu and not torch.cuda.is_available():
        import ray

        # Kubernetes' name of the node if there is one: Ray only knows the pod's address.
        node = os.environ.get("TRAINER_NODE") or ray.util.get_node_ip_address()
        raise TrainerError(f"use_gpu is true but node {node} has no CUDA device; set scaling.use_gpu: false")
