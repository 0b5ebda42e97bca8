"""Where a fit starts: at the newest commit, at a checkpoint that the run file names, or from scratch."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trainer_app import checkpoint as ckpt
from trainer_app.callbacks import ranks
from trainer_app.config import RunConfig
from trainer_app.records import FitFolder
from trainer_app.storage import open_store
from trainer_app.storage_uri import parse_scheme

Origin = Callable[[Path], tuple[ckpt.Commit, Path] | None]


@dataclass(frozen=True)
class Start:
    """What `Trainer.fit` gets; `resumed` is the manifest of the commit that `path` is, if it is one of this run's."""

    path: str | None = None
    weights_only: bool | None = None
    resumed: ckpt.Manifest | None = None


def find_start(config: RunConfig, fit_folder: FitFolder, folder: Path, *, origin: Origin | None = None) -> Start:
    """Download what a fit starts from into `folder`: what `origin` does, or the newest commit, or `ckpt_path`."""
    resumed = origin(folder) if origin else resume_point(fit_folder, folder)
    if resumed:
        return Start(str(resumed[1]), weights_only=True, resumed=resumed[0].manifest)
    return Start(starting_point(config, folder))


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


def starting_point(config: RunConfig, folder: Path) -> str | None:
    """Return the run file's `ckpt_path` as a local path; a URI of a checkpoint or of its folder is downloaded."""
    uri = config.ckpt_path
    if uri is None or not parse_scheme(uri):
        return uri
    head, _, last = uri.rstrip("/").rpartition("/")
    head, last = (head, last) if last.endswith(".ckpt") else (uri.rstrip("/"), ckpt.PAYLOAD)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "start.ckpt"
    open_store(head).get_file(last, path)
    return str(path)


def _report_rejected(name: str, reason: str) -> None:
    print(f"checkpoint {name} is not used: {reason}; trying an older one", file=sys.stderr, flush=True)
