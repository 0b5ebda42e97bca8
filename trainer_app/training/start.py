"""Where a fit starts: at the newest commit, at a checkpoint that the run file names, or from scratch."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning.pytorch import LightningModule
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

from trainer_app import checkpoint as ckpt
from trainer_app.callbacks import ranks
from trainer_app.checkpoint.loading import allow_globals
from trainer_app.checkpoint.sharded import download_whole, keys_of_rank
from trainer_app.config import RunConfig
from trainer_app.errors import CheckpointRejectedError, InputError, NotFoundError
from trainer_app.records import FitFolder
from trainer_app.run.start_files import LAST, find_local, split_file
from trainer_app.storage import open_retrying, split_uri
from trainer_app.storage_uri import parse_scheme

Origin = Callable[[Path], tuple[ckpt.Commit, Path] | None]


@dataclass(frozen=True)
class Start:
    """What `Trainer.fit` gets; `commit` is what `path` was downloaded from, if it is one of this run's.

    `weights` is a file whose weights alone the new model gets, `resumed` the commit's manifest.
    """

    path: str | None = None
    weights_only: bool | None = None
    resumed: ckpt.Manifest | None = None
    weights: str | None = None
    commit: ckpt.Commit | None = None


def find_start(config: RunConfig, fit_folder: FitFolder, folder: Path, *, origin: Origin | None = None) -> Start:
    """Download what a fit starts from: what `origin` does, or the newest commit, or `ckpt_path`, or `weights`.

    Args:
        fit_folder: the run's or the trial's, with its commits.
        folder: a temporary one, to download into.
        origin: downloads a commit of another trial (a PBT exploit), in place of the newest of `fit_folder`.
    """
    resumed = origin(folder) if origin else resume_point(fit_folder, folder)
    if resumed:
        commit, path = resumed
        return Start(str(path), weights_only=True, resumed=commit.manifest, commit=commit)
    if config.ckpt_path == LAST:
        return Start(LAST, weights_only=config.weights_only is not False)  # an artifact, as the storage has it
    named = config.weights.path if config.weights is not None else config.ckpt_path
    sharded = find_sharded(named, config) if named else None
    if sharded is not None and config.weights is not None:
        return Start(weights=str(download_whole(sharded, folder, config.checkpoint.allow)))
    if sharded is not None:
        return Start(str(ckpt.download_commit(sharded, folder)), weights_only=True, commit=sharded)
    if config.weights is not None:
        return Start(weights=download(config.weights.path, folder, config))
    return Start(config.ckpt_path and download(config.ckpt_path, folder, config), weights_only=config.weights_only)


def resume_point(fit_folder: FitFolder, folder: Path) -> tuple[ckpt.Commit, Path] | None:
    """Download the newest commit that verifies on every rank: each rank has all of it, or its share of the shards."""
    names = ranks.gather(sorted(fit_folder.checkpoints.list_folders(), reverse=True) if ranks.get_rank() == 0 else [])
    for name in names[0]:
        resumed, problem = _download_share(fit_folder, name, folder / name)
        problems = ranks.gather(problem)
        if problems == [None] * len(problems):
            return resumed
        if ranks.get_rank() == 0 and any(problems):
            _report_rejected(name, next(filter(None, problems)))
    return None


def _download_share(
    fit_folder: FitFolder, name: str, folder: Path
) -> tuple[tuple[ckpt.Commit, Path] | None, str | None]:
    """Return a commit that this rank has downloaded and verified; or why it is none, "" if it never was."""
    try:
        commit = ckpt.read_commit(fit_folder.checkpoints, name)
        keys = keys_of_rank(commit.manifest, ranks.get_rank(), ranks.get_world_size())
        return (commit, ckpt.download_commit(commit, folder, keys=keys)), None
    except NotFoundError:
        return None, ""  # a payload without a manifest: the writer was stopped before it committed
    except CheckpointRejectedError as error:
        return None, str(error)


def find_sharded(path: str, config: RunConfig) -> ckpt.Commit | None:
    """Return the commit of many objects whose folder a path or URI names; None if it names something else."""
    uri, name = split_uri(path if parse_scheme(path) else str(find_local(path)))
    try:
        commit = ckpt.read_commit(open_retrying(uri, config.failure.storage_timeout_s, begun=True), name)
    except (NotFoundError, CheckpointRejectedError, InputError):
        return None
    return commit if commit.manifest.is_sharded else None


def download(path: str, folder: Path, config: RunConfig) -> str:
    """Return a checkpoint that the run file names as a local path; one of a URI is downloaded into `folder`."""
    if not parse_scheme(path):
        return str(find_local(path))
    store, name = split_file(path)
    folder.mkdir(parents=True, exist_ok=True)
    open_retrying(store, config.failure.storage_timeout_s, begun=True).get_file(name, folder / "start.ckpt")
    return str(folder / "start.ckpt")


def load_weights(model: LightningModule, config: RunConfig, path: str) -> None:
    """Load the weights of a checkpoint, or of a file of weights, into a new model, sharded or not.

    Args:
        path: the downloaded file.

    Raises:
        InputError: the file can't be loaded, or `strict` and its weights are not the model's; each is named.
    """
    assert config.weights is not None
    try:
        with allow_globals(config.checkpoint.allow):
            loaded = torch.load(path, map_location="cpu", weights_only=config.weights_only is not False)
    except Exception as e:
        raise InputError(f"weights: {config.weights.path} can't be loaded: {' '.join(str(e).split())[:300]}") from e
    own, weights = model.state_dict(), loaded.get("state_dict", loaded)
    shapes = [{name: getattr(value, "shape", None) for name, value in each.items()} for each in (own, weights)]
    other_shape = [name for name in weights if name in own and shapes[0][name] != shapes[1][name]]
    names = {
        "missing": [name for name in own if name not in weights],
        "unexpected": [name for name in weights if name not in own],
        "of another shape": other_shape,
    }
    text = "; ".join(f"{what}: {', '.join(keys[:20])} ({len(keys)})" for what, keys in names.items() if keys)
    if text and config.weights.strict:
        advice = "to load what fits: weights: {path: PATH, strict: false}"
        raise InputError(f"weights: {config.weights.path} is not of this model; {text}; {advice}")
    if text:
        print(f"weights of {config.weights.path} that are not loaded: {text}", file=sys.stderr, flush=True)
    chosen = {k: v for k, v in weights.items() if k in own and k not in other_shape}
    set_model_state_dict(model, chosen, options=StateDictOptions(full_state_dict=True, strict=False))


def _report_rejected(name: str, reason: str) -> None:
    print(f"checkpoint {name} is not used: {reason}; trying an older one", file=sys.stderr, flush=True)
