"""Where the user's code of a fit works, and what it writes there: sent to the run's artifacts."""

from __future__ import annotations

import functools
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from trainer_app.callbacks import ranks
from trainer_app.callbacks.epoch import EpochReporter
from trainer_app.config import RunConfig
from trainer_app.results.model import ARTIFACTS
from trainer_app.run import artifacts, user_code, working_folder
from trainer_app.run.artifacts import Limits, Sender
from trainer_app.run.spec import RunSpec
from trainer_app.user_errors import FitProgress

TESTED: Final = "tested"  # among a fit's artifacts: what a test of it wrote
OTHERS: Final = ("rank-", f"{TESTED}/")  # what a fit does not get back
_working: Final[list[tuple[Sender, FitProgress]]] = []  # the fits of this process


@contextmanager
def keep_files(
    config: RunConfig, spec: RunSpec, trial: str | None, progress: FitProgress, *, part: str = ""
) -> Iterator[None]:
    """Fit in the user's folder, or in one of this trial's own, and keep in storage what is written there.

    One process of a node sends for all of them, which share the folder.

    Args:
        trial: None for a train run.
        progress: has the Trainer, once it is built.
        part: the folder among the artifacts of the fit, for what is not written by the fit itself: TESTED.
    """
    if not spec.folder:
        yield
        return
    sends = ranks.get_world_size() == 1 or os.environ.get("LOCAL_RANK", "0") == "0"
    rank = [f"rank-{ranks.get_rank()}"] if sends and ranks.get_rank() else []
    store = spec.run_store().child("/".join([ARTIFACTS, *([trial] if trial else []), *rank]))
    name = "/".join([trial or "", part, uuid.uuid4().hex if part else ""])  # tests share no folder
    with _working_folder(spec, name, lambda folder: artifacts.restore(store, folder, skip=OTHERS)) as find:
        if not sends:
            yield
            return
        limits = Limits(config.storage.artifact_files, int(config.storage.artifact_gib * (1 << 30)))
        target, find_commit = store.child(part) if part else store, functools.partial(_commit_of, progress)
        with Sender(target, lambda: find(progress.trainer), limits, find_commit) as sender:
            _working.append((sender, progress))
            try:
                yield
            finally:
                _working.pop()


def send_files() -> None:
    """Send what the fits of this process have written so far, since the process is about to be ended."""
    for sender, progress in tuple(_working):
        for logger in progress.trainer.loggers if progress.trainer else ():
            with suppress(Exception):
                logger.save()
        sender.send(last=True)


Find = Callable[[Any], Mapping[str, Path]]


@contextmanager
def _working_folder(spec: RunSpec, fit: str, fill: Callable[[Path], None]) -> Iterator[Find]:
    """Enter the folder. Yield what finds the files that were written there, given the Trainer or None."""
    if spec.in_place:
        folder = Path(spec.folder)
        before = set(folder.iterdir())

        def find(trainer: Any) -> Mapping[str, Path]:
            return artifacts.find_changed(folder, _roots(folder, before, trainer), spec.started, leave_out=spec.uri)

        yield find
        return
    code = [user_code.fetch(spec.run_store(), spec.code)] if spec.code else []
    name = working_folder.name_folder(spec.uri, spec.run, spec.driver, fit=fit)
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


def _commit_of(progress: FitProgress, path: Path) -> str | None:
    """Return the name of the commit that has all tensors of this checkpoint, None if there is none."""
    for one in progress.trainer.callbacks if progress.trainer else ():
        if isinstance(one, EpochReporter):
            return one.tensors.find_commit(path, {commit.name for commit in one.known or ()})
    return None
