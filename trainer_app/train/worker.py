"""What runs inside a worker or a trial: build the parts of a run file, resume from the newest commit, fit."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from ray.train.lightning import RayDDPStrategy, RayLightningEnvironment, prepare_trainer

from trainer_app import checkpoint as ckpt
from trainer_app import lightning_cli
from trainer_app.callbacks import ranks
from trainer_app.callbacks.epoch import EpochReporter, Policy
from trainer_app.checkpoint.loading import allow_globals
from trainer_app.config import RunConfig
from trainer_app.errors import TrainerError
from trainer_app.lightning_cli.importing import load_object
from trainer_app.records import FitFolder, parse_part_key
from trainer_app.run import logs, stop
from trainer_app.run.spec import RunSpec
from trainer_app.storage import open_store
from trainer_app.storage_uri import parse_scheme
from trainer_app.user_errors import FitProgress, plain_errors

Report = Callable[[dict[str, Any]], None]


def policy(config: RunConfig, spec: RunSpec, *, task: str, every_epoch: bool = False, keep_at_least: int = 1) -> Policy:
    """Return when to commit (`every_epoch` for schedulers that pause or clone trials) and what to keep."""
    c = config.checkpoint
    monitor, mode = config.selection_metric(task)
    return Policy(
        every_n_epochs=1 if every_epoch else c.every_n_epochs,
        keep=None if c.keep is None else max(c.keep, keep_at_least),
        monitor=monitor,
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
    origin: Callable[[Path], tuple[ckpt.Commit, Path] | None] | None = None,
    callbacks: Sequence[Callback] = (),
    prepare: Callable[[Any], Any] | None = None,
    progress: FitProgress | None = None,
) -> bool:
    """Train `config` to its end, from the newest intact commit of `fit_folder` if there is one.

    Args:
        policy, report: see EpochReporter.
        trainer_kwargs, callbacks: override the run file's `trainer`, and are added to its callbacks.
        origin: downloads the checkpoint to start from instead of the newest of `fit_folder` (a PBT exploit).
        prepare: called with the Trainer before it fits (Ray's prepare_trainer).
        progress: is told how far the fit came, for `plain_errors`.

    Returns:
        whether it stopped before its end, at a commit, because `policy.stop` asked for it.
    """
    progress = progress or FitProgress()
    reporter = make_reporter(fit_folder, policy, report)
    with tempfile.TemporaryDirectory(prefix="trainer-") as tmp:
        resumed = origin(Path(tmp, "from")) if origin else resume_point(fit_folder, Path(tmp, "from"))
        start = str(resumed[1]) if resumed else starting_point(config, Path(tmp))
        kwargs = {**trainer_defaults(config, tmp), **trainer_kwargs}
        progress.resumed = resumed is not None
        parts = lightning_cli.build_parts(config, trainer_kwargs=kwargs, callbacks=callbacks)
        progress.trainer = parts.trainer
        parts.trainer.callbacks.insert(0, reporter)  # first: commits what other callbacks counted once
        if prepare:
            prepare(parts.trainer)
        source: dict[str, Any] = {"ckpt_path": start, "weights_only": True if resumed else None}
        with allow_globals(policy.allow), logs.send_at_end():
            parts.trainer.fit(parts.model, datamodule=parts.datamodule, **source)
    return reporter.stopped


def make_reporter(fit_folder: FitFolder, policy: Policy, report: Report) -> EpochReporter:
    """Return the reporter of a new attempt; only rank 0 reads what earlier ones wrote, since only it writes."""
    if ranks.get_rank() != 0:
        return EpochReporter(fit_folder, attempt=1, policy=policy, report=report)
    lines, attempt = fit_folder.read_metrics(), next_attempt(fit_folder)
    elapsed = lines[-1]["elapsed"] if lines else 0.0
    return EpochReporter(fit_folder, attempt=attempt, policy=policy, report=report, elapsed=elapsed)


def fit_with_ray(config: RunConfig, spec: RunSpec, *, trial: str | None, report: Report) -> bool:
    """Do one rank's part of a fit, with Ray's strategy and environment. Return as `fit`."""
    check_device(spec)
    kwargs: dict[str, Any] = {"devices": "auto", "num_nodes": 1, "accelerator": "gpu" if spec.use_gpu else "cpu"}
    if config.trainer.get("plugins"):
        config = add_plugin(config, "ray.train.lightning.RayLightningEnvironment")
    else:
        kwargs["plugins"] = [RayLightningEnvironment()]
    if not config.trainer.get("strategy"):
        kwargs["strategy"] = RayDDPStrategy()
    progress = FitProgress()
    with plain_errors(progress):
        return fit(
            config,
            spec.fit_folder(trial),
            policy=policy(config, spec, task="tune" if trial else "train"),
            report=report,
            trainer_kwargs=kwargs,
            prepare=prepare_trainer,
            progress=progress,
        )


def add_plugin(config: RunConfig, class_path: str) -> RunConfig:
    """Return the run file with one more plugin."""
    plugins = config.trainer["plugins"]
    plugins = [*(plugins if isinstance(plugins, list) else [plugins]), {"class_path": class_path}]
    return config.model_copy(update={"trainer": {**config.trainer, "plugins": plugins}})


def trainer_defaults(config: RunConfig, folder: str) -> dict[str, Any]:
    """Return Trainer arguments that the run file does not set: no progress bar, logs and checkpoints of Lightning's.

    `folder` is temporary, for what Lightning writes.
    """
    ours: dict[str, Any] = dict.fromkeys(("enable_progress_bar", "enable_model_summary", "logger"), False)
    ours["default_root_dir"] = folder
    if not _has_model_checkpoint(config.trainer.get("callbacks")):
        ours["enable_checkpointing"] = False
    return {k: v for k, v in ours.items() if config.trainer.get(k) is None}


def _has_model_checkpoint(callbacks: Any) -> bool:
    """Return whether the run file has a ModelCheckpoint (or a subclass) of its own."""
    items = callbacks if isinstance(callbacks, list) else [callbacks] if callbacks else []
    for item in items:
        path = item.get("class_path", "") if isinstance(item, dict) else item if isinstance(item, str) else ""
        if path.split(".")[-1] in ("ModelCheckpoint", "OnExceptionCheckpoint", "AsyncCheckpoint"):
            return True
        if "." in path:
            callback = load_object("trainer.callbacks", path)
            if isinstance(callback, type) and issubclass(callback, ModelCheckpoint):
                return True
    return False


def resume_point(fit_folder: FitFolder, folder: Path) -> tuple[ckpt.Commit, Path] | None:
    """Download the newest commit that verifies on every rank; rank 0 chooses, so that all take the same."""
    newest = None
    if ranks.get_rank() == 0:
        newest = ckpt.download_newest(fit_folder.checkpoints, folder, reject=_report_rejected)
    if ranks.get_world_size() == 1:
        return newest
    chosen: list[Any] = [newest[0].name if newest else None]
    torch.distributed.broadcast_object_list(chosen, src=0)
    if chosen[0] is None or newest:
        return newest
    commit = ckpt.read_commit(fit_folder.checkpoints, chosen[0])
    return commit, ckpt.download_commit(commit, folder)


def next_attempt(fit_folder: FitFolder) -> int:
    """Return one more than the newest attempt that wrote metrics or a commit."""
    wrote = [order[0] for e in fit_folder.store.list("metrics") if (order := parse_part_key(e.key))]
    committed = [ckpt.attempt_of_commit(name) for name in fit_folder.checkpoints.list_folders()]
    return max([0, *wrote, *committed]) + 1


def _report_rejected(name: str, reason: str) -> None:
    print(f"checkpoint {name} is not used: {reason}; trying an older one", file=sys.stderr, flush=True)


def starting_point(config: RunConfig, folder: Path) -> str | None:
    """Return the run file's `ckpt_path` as a local path; a URI of a checkpoint or of its folder is downloaded."""
    uri = config.ckpt_path
    if uri is None or not parse_scheme(uri):
        return uri
    head, _, last = uri.rstrip("/").rpartition("/")
    head, last = (head, last) if last.endswith(".ckpt") else (uri.rstrip("/"), ckpt.PAYLOAD)
    path = folder / "start.ckpt"
    open_store(head).get_file(last, path)
    return str(path)


def check_device(spec: RunSpec) -> None:
    """Raise a TrainerError that names the node, in place of Lightning's traceback, if a worker has no CUDA device."""
    if spec.use_gpu and not torch.cuda.is_available():
        import ray

        # Kubernetes' name of the node if there is one: Ray only knows the pod's address.
        node = os.environ.get("TRAINER_NODE") or ray.util.get_node_ip_address()
        raise TrainerError(f"use_gpu is true but node {node} has no CUDA device; set scaling.use_gpu: false")
