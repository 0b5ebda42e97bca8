"""Where the user's code of a fit works, and what it writes there: sent to the run's artifacts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trainer_app.callbacks import ranks
from trainer_app.callbacks.epoch import EpochReporter
from trainer_app.config import RunConfig
from trainer_app.results.model import ARTIFACTS
from trainer_app.run import artifacts, user_code, working_folder
from trainer_app.run.artifacts import Limits, Sender
from trainer_app.run.spec import RunSpec
from trainer_app.user_errors import FitProgress


@contextmanager
def keep_files(config: RunConfig, spec: RunSpec, trial: str | None, progress: FitProgress) -> Iterator[None]:
    """Fit in the user's folder, or in one of this trial's own, and keep in storage what is written there.

    One process of a node sends for all of them, which share the folder.

    Args:
        trial: None for a train run.
        progress: has the Trainer, once it is built.
    """
    if not spec.folder:
        yield
        return
    sends = ranks.get_world_size() == 1 or os.environ.get("LOCAL_RANK", "0") == "0"
    rank = [f"rank-{ranks.get_rank()}"] if sends and ranks.get_rank() else []
    store = spec.run_store().child("/".join([ARTIFACTS, *([trial] if trial else []), *rank]))
    with _working_folder(spec, trial, lambda folder: artifacts.restore(store, folder, skip=("rank-",))) as find:
        if not sends:
            yield
            return
        limits = Limits(config.storage.artifact_files, int(config.storage.artifact_gib * (1 << 30)))
        with Sender(store, lambda: find(progress.trainer), limits, lambda path: _commit_of(progress.trainer, path)):
            yield


Find = Callable[[Any], Mapping[str, Path]]


@contextmanager
def _working_folder(spec: RunSpec, trial: str | None, fill: Callable[[Path], None]) -> Iterator[Find]:
    """Enter the folder. Yield what finds the files that were written there, given the Trainer or None."""
    if spec.in_place:
        folder = Path(spec.folder)
        before = set(folder.iterdir())

        def find(trainer: Any) -> Mapping[str, Path]:
            return artifacts.find_changed(folder, _roots(folder, before, trainer), spec.started, leave_out=spec.uri)

        yield find
        return
    code = [user_code.fetch(spec.run_store(), spec.code)] if spec.code else []
    name = working_folder.name_folder(spec.uri, spec.run, spec.driver, fit=trial or "")
    sources = [*code, *([Path(spec.folder)] if Path(spec.folder).is_dir() else [])]
    with working_folder.entered(name, sources, storage=spec.uri, fill=fill) as own:
        yield lambda trainer: artifacts.find_changed(own.path, sorted(own.path.iterdir()), own.since)


def _roots(folder: Path, before: set[Path], trainer: Any) -> Sequence[Path]:
    """Return what is looked at in the user's own folder: what a fit's parts name first, and no hidden files.

    In a home folder, or one above it, other programs write too: there only what is new is looked at.
    """
    entries = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    if Path.home().is_relative_to(folder):
        entries = [path for path in entries if path not in before]
    entries = [path for path in entries if path not in before or path.suffix != ".py"]
    if trainer is None:
        return entries
    loggers = [getattr(one, "root_dir", None) or one.save_dir for one in trainer.loggers]
    parts = [getattr(one, "dirpath", None) for one in [*trainer.callbacks, trainer.profiler]]
    named = [folder / path for path in {str(path) for path in [*loggers, *parts] if path}]
    return [*(path for path in named if folder in path.parents), *entries]


def _commit_of(trainer: Any, path: Path) -> str | None:
    """Return the name of the commit that has all tensors of this checkpoint, None if there is none."""
    for one in trainer.callbacks if trainer else ():
        if isinstance(one, EpochReporter):
            return one.tensors.find_commit(path, {commit.name for commit in one.known or ()})
    return None
