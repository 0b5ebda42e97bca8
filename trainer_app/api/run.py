"""A run in Python: read from its storage, waited for, stopped; its checkpoints loaded into the user's module."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from trainer_app.api import patience
from trainer_app.api.arguments import to_list
from trainer_app.api.frames import to_frame
from trainer_app.api.lost import why_lost
from trainer_app.api.page import Report
from trainer_app.errors import InputError, NotFoundError, RunFailedError
from trainer_app.results import RunResults, read_run
from trainer_app.results import model as stored
from trainer_app.results.table_files import epoch_rows, trial_rows
from trainer_app.storage import Store, open_store

if TYPE_CHECKING:
    from trainer_app.checkpoint import Commit
    from trainer_app.launch.kube import Kube

Module = TypeVar("Module")


@dataclass(frozen=True)
class ClusterSide:
    """How a run on Kubernetes is reached: its RayJob, and its storage from this machine."""

    kube: Kube
    endpoint: str | None = None
    values: tuple[str, ...] = ()


@dataclass(frozen=True)
class Checkpoint:
    """A committed checkpoint: `epochs` finished, `step` of the optimizer, the epoch's metrics, `size` in bytes."""

    run: Run
    trial: str | None
    name: str
    uri: str
    epochs: int
    step: int
    metrics: dict[str, float]
    size: int

    def download(self, folder: str | Path) -> Path:
        """Copy its file to a folder, verified against its manifest, and return its path there.

        Of a commit of many objects that is the folder: Lightning resumes from it too.

        Raises:
            CheckpointRejectedError: size or SHA-256 differ from the manifest.
            NotFoundError: retention has removed it.
        """
        from trainer_app.checkpoint import download_commit

        with self.run.opened() as storage:
            commit = self._read(storage)
            path = download_commit(commit, Path(folder))
        return path.parent if commit.manifest.is_sharded else path

    def load(self, module: type[Module], *, allow: str | Sequence[str] = (), **arguments: Any) -> Module:
        """Return the module with the checkpoint's weights, by its own `load_from_checkpoint`, on the CPU.

        Args:
            module: the LightningModule's class.
            allow: classes, by import path, that the file may hold beside tensors and plain values.
            arguments: of its constructor, over the hyperparameters that it saved.

        Raises:
            CheckpointRejectedError: the file is damaged, or has a class that is not allowed.
            InputError: `module` is no LightningModule's class.
        """
        from trainer_app.checkpoint.loading import allow_globals
        from trainer_app.checkpoint.sharded import download_whole
        from trainer_app.temporary import temporary_folder

        if not isinstance(module, type) or not hasattr(module, "load_from_checkpoint"):
            raise InputError(f"load takes the class of a LightningModule, not {module!r}")
        allow = to_list(allow)
        with temporary_folder("load") as folder, allow_globals(allow), self.run.opened() as storage:
            path = download_whole(self._read(storage), Path(folder), allow)
            load = module.load_from_checkpoint  # type: ignore[attr-defined]
            return load(path, map_location="cpu", weights_only=True, **arguments)

    def _read(self, storage: Store) -> Commit:
        from trainer_app.checkpoint import read_commit
        from trainer_app.records import RunFolder

        return read_commit(RunFolder.open(storage, self.run.name).fit_folder(self.trial).checkpoints, self.name)


@dataclass(eq=False)
class Run:
    """A run in a storage, also one that is still going on: each property reads it anew, `snapshot()` once.

    `uri`: of the storage that has the run's folder; `name`: that folder's.
    """

    uri: str
    name: str
    cluster: ClusterSide | None = field(default=None, repr=False)

    @contextmanager
    def opened(self) -> Iterator[Store]:
        """Yield the storage; of a run on Kubernetes through a port-forward where that is needed."""
        if self.cluster is None:
            yield open_store(self.uri)
            return
        from trainer_app.launch.submitted_run import submitted_run

        side = self.cluster
        with submitted_run(side.kube, self.name, side.endpoint, side.values) as where:
            yield open_store(where.uri)

    def snapshot(self) -> RunResults:
        """Return all that the storage has of the run now: record, trials, epochs, checkpoints, artifacts.

        Raises:
            NotFoundError: there is no such run, or it has written nothing yet.
            StorageError: no answer, or run.json is damaged beyond what other objects say.
        """
        with self.opened() as storage:
            return read_run(storage, self.name)

    @property
    def state(self) -> str:
        """Return running, succeeded, interrupted or failed; `submitted` before a pod has written anything."""
        from trainer_app.records import RunFolder

        try:
            with self.opened() as storage:
                return RunFolder.open(storage, self.name).record.state
        except NotFoundError:
            if self.cluster is None:
                raise
            return "submitted"

    @property
    def best(self) -> Checkpoint | None:
        """Return the committed checkpoint with the best value of the run's metric, the newest if it has no metric."""
        from trainer_app.results import read_outcome

        with self.opened() as storage:
            chosen = read_outcome(storage, self.name).checkpoint
        return self._checkpoint(chosen) if chosen else None

    def checkpoints(self) -> list[Checkpoint]:
        """Return all committed checkpoints, of all trials, oldest first."""
        return [self._checkpoint(one) for fit in self.snapshot().fits for one in fit.checkpoints]

    def metrics(self, trial: str | None = None) -> Any:
        """Return a row per epoch: run, trial, state, epoch (from 0), step, time, elapsed, parameters, metrics.

        Args:
            trial: only this one's.

        Returns:
            a pandas DataFrame; a list of dicts where pandas is not installed. Columns as `trainer results --csv`.
        """
        columns, rows = epoch_rows(self.snapshot())
        return to_frame(
            columns, [row for row in rows if row.get("epoch") is not None and trial in (None, row["trial"])]
        )

    def trials(self) -> Any:
        """Return a row per trial: trial, state, epochs, the metric's best value, elapsed, reason, parameters.

        Returns:
            a pandas DataFrame; a list of dicts where pandas is not installed. Empty for a train run.
        """
        return to_frame(*trial_rows(self.snapshot()))

    def report(self) -> Report:
        """Return the page of `trainer report`: a notebook's cell shows it, and `save(FILE)` writes it."""
        from trainer_app.report import render_page, report_document

        with self.opened() as storage:
            return Report(render_page(report_document([(storage, self.name)])))

    def wait(self, timeout: float | None = None) -> Run:
        """Wait until the run ends, and return it.

        Args:
            timeout: seconds; None waits for ever.

        Raises:
            RunFailedError: it failed, with its error; or what led it is gone, a process of this machine or a RayJob.
            TimeoutError: it has not ended in time; it continues.
            TrainerError: storage or API server give no answer for patience.PATIENCE_S.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        going_on = ("running", "submitted")
        while patience.ask(lambda: self.state) in going_on:
            why = patience.ask(lambda: why_lost(self))
            if why and patience.ask(lambda: self.state) in going_on:  # asked again: it may have ended meanwhile
                raise RunFailedError(f"run {self.name} has not ended, and {why}")
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"run {self.name} has not ended in {timeout:g} s")
            time.sleep(patience.POLL_S)
        return patience.ask(self.check)

    def check(self) -> Run:
        """Return the run; raise RunFailedError if it failed."""
        record = self.snapshot().record
        if record.state == "failed":
            raise RunFailedError(f"run {self.name} failed: {record.error}")
        return self

    def stop(self, *, grace: float = 300.0) -> None:
        """Ask a run on Kubernetes to commit a checkpoint and give its nodes back, as `trainer stop` does.

        Args:
            grace: how many seconds it may take to commit.

        Raises:
            InputError: it does not run on a cluster: interrupt the process that started it.
        """
        if self.cluster is None:
            raise InputError(f"run {self.name} is not of a cluster: interrupt the process that started it (Ctrl-C)")
        from trainer_app.launch import control, location

        rayjob = location.find_rayjob(self.cluster.kube, self.name)
        control.stop(self.cluster.kube, rayjob, grace=grace, say=lambda line: None, endpoint=self.cluster.endpoint)

    def _checkpoint(self, one: stored.Checkpoint) -> Checkpoint:
        fields: Mapping[str, Any] = {k: getattr(one, k) for k in ("trial", "name", "uri", "epochs", "step", "size")}
        return Checkpoint(run=self, metrics=dict(one.metrics), **fields)
