"""Tune's callbacks as records in storage and events on the screen."""

from __future__ import annotations

import logging
import pickle
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray.tune import Callback, Stopper

from trainer_app.errors import StorageError, StorageUnavailableError
from trainer_app.metric_order import best_of, is_better
from trainer_app.records import RunFolder, TrialRecord
from trainer_app.records.models import MAX_TRACEBACK, STOP_REQUESTED, STORAGE_SILENT, TIME_BUDGET
from trainer_app.run.watch import Emit
from trainer_app.training.relay import report_events
from trainer_app.tuning import history
from trainer_app.tuning.process_state import FreshProcessError

LOST = "its process ended"

_log = logging.getLogger(__name__)


class StopWhenIdle(Stopper):
    """End a sweep that was asked to stop when no trial runs: paused trials would wait for others for ever."""

    def __init__(self, recorder: SweepRecorder) -> None:
        self.recorder = recorder

    def __getstate__(self) -> dict[str, Any]:
        """Return nothing, as the recorder does."""
        return {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self.recorder.stopping.is_set() and self.recorder.idle


@dataclass(eq=False)
class SweepRecorder(Callback):
    """Write a trial's record before Tune counts it as finished, and emit its events."""

    folder: RunFolder
    emit: Emit
    mode: str  # "min" or "max", of the sweep's metric
    scheduler: Any  # one of `schedulers`, which knows why it stopped a trial
    records: dict[str, TrialRecord]  # of earlier attempts, by trial
    stopping: threading.Event  # set when the sweep has to stop, also here by the first trial that reports a stop
    nested_resources: Any = None  # a `NestedTrialResources` if trials are nested
    unwritten: set[str] = field(default_factory=set)
    reasons: set[str] = field(default_factory=set)
    idle: bool = False
    unavailable: str = ""  # why the storage did not answer, if a trial or this driver waited for it in vain

    def __getstate__(self) -> dict[str, Any]:
        """Return nothing: Tune pickles callbacks into snapshots that are never read."""
        return {}

    # --- Tune's hooks

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        record = self._record(trial)
        record.params = dict(trial.config)
        record.state = "running"
        record.reason = ""
        record.attempts += 1
        record.started, record.seen = record.started or time.time(), {}
        self._write(record)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        record = self._record(trial)
        if "error" in result:
            record.error, record.traceback = result["error"], result.get("traceback", "")[-MAX_TRACEBACK:]
            return
        if "stopped" in result:
            record.reason = STOP_REQUESTED
            self.stopping.set()
            return
        if "unavailable" in result:
            record.reason = STORAGE_SILENT
            self._end_sweep(result["unavailable"])
            return
        record.epochs = result["epochs"]
        record.metrics = result["metrics"]
        value = result["objective"]
        if is_better(value, record.best, self.mode):
            record.best, record.best_epoch = value, record.epochs - 1
        for event in report_events(result, record.trial):
            self.emit(event)
        self.emit(trial_event(record, value))

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        if self.nested_resources:
            self.nested_resources.release_for_retry(trial.trial_id)  # a lost driver leaves its workers' group
        wish = wish_for_process(trial)
        reason = str(wish or "its process ended; starting it again")
        if wish and not wish.failure:
            self._record(trial).attempts -= 1  # it has not begun
        if not wish:  # a failure was recorded by the trial's process
            self.folder.fit_folder(trial.trial_id).record_end("lost", LOST)
        if reason not in self.reasons or not wish:  # of new processes one line each
            self.reasons.add(reason)
            self.emit({"event": "retry", "trial": trial.trial_id, "reason": reason})

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        record = self._record(trial)
        if record.error:
            record.state, record.reason = "failed", record.error
        elif record.reason in (STOP_REQUESTED, STORAGE_SILENT):
            record.state = "stopped"
        elif trial.trial_id in self.scheduler.reasons:
            reason = self.scheduler.reasons[trial.trial_id]
            record.state, record.reason = ("finished" if reason.startswith("reached") else "stopped"), reason
        else:
            record.state, record.reason = "finished", "trained to its end"
        self._close(record)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        record = self._record(trial)
        wish = wish_for_process(trial)
        text = wish.failure if wish else str(trial.get_error() or "")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        record.traceback = text[-MAX_TRACEBACK:]
        record.error = lines[-1] if lines else LOST
        record.state, record.reason = "failed", record.error
        self._close(record)
        if self.nested_resources:
            self.nested_resources.release(record.trial)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self.idle = not any(trial.status == "RUNNING" for trial in trials)
        if self.nested_resources:
            self.nested_resources.release_ended()

    def close_unfinished(self) -> None:
        """Close the trials that the time budget ended, or a stop while they were paused: Tune calls no callback."""
        for record in self.records.values():
            if record.state in ("running", "pending"):
                record.state, record.reason = "stopped", STOP_REQUESTED if self.stopping.is_set() else TIME_BUDGET
                self._close(record)

    # --- what the hooks do

    def _record(self, trial: Any) -> TrialRecord:
        name = trial.trial_id
        if name not in self.records:
            self.records[name] = TrialRecord(trial=name, index=int(name[1:]), params=dict(trial.config))
        return self.records[name]

    def _close(self, record: TrialRecord) -> None:
        """Write the record of a trial that is over, and release what it reserved, once it has ended."""
        lines = self._read_metrics(record)
        if lines:  # also lines that an attempt wrote without a report to this driver
            record.epochs, record.metrics = lines[-1]["epoch"] + 1, lines[-1]["metrics"]
            metric = self.folder.record.metric or ""
            values = [(line["metrics"].get(metric), (line["metrics"].get(metric), line["epoch"])) for line in lines]
            record.best, record.best_epoch = best_of(values, self.mode) or (record.best, record.best_epoch)
            results = [(epoch + 1, value) for value, (_, epoch) in values if value is not None]
            record.seen = history.seen_by(self.scheduler, results)
        record.ended = time.time()
        self._write(record)
        if self.nested_resources:
            self.nested_resources.release_when_ended(record.trial)

    def _read_metrics(self, record: TrialRecord) -> list[dict[str, Any]]:
        """Return a trial's metrics; none if they can't be read: what it has reported is known."""
        try:
            return self.folder.fit_folder(record.trial).read_metrics()
        except StorageError as error:
            self._note_silence(error)
            _log.warning("the metrics of trial %s were not read: %s", record.trial, error)
            return []

    def _note_silence(self, error: StorageError) -> None:
        if isinstance(error, StorageUnavailableError):
            self._end_sweep(str(error))

    def _end_sweep(self, reason: str) -> None:
        """Begin no more trials: each would wait for the storage in vain. What is left is resumed."""
        self.unavailable = self.unavailable or reason
        self.stopping.set()

    def flush(self) -> None:
        """Write the records that could not be written during the sweep.

        Raises:
            StorageUnavailableError: the storage did not answer a trial or this driver. StorageError: it still fails.
        """
        for name in sorted(self.unwritten):
            self.folder.write_trial(self.records[name])
        if self.unavailable:
            raise StorageUnavailableError(self.unavailable)

    def _write(self, record: TrialRecord) -> None:
        """Write a record, or later: a storage error must not end the sweep, nor make Tune take the trial for lost."""
        try:
            self.folder.write_trial(record)
            self.unwritten.discard(record.trial)
        except StorageError as error:
            self.unwritten.add(record.trial)
            self._note_silence(error)
            self.emit({"event": "retry", "trial": record.trial, "reason": f"its record is not written yet: {error}"})
        self.emit(trial_event(record, record.best))


def wish_for_process(trial: Any) -> FreshProcessError | None:
    """Return with what a trial asked for another process; None if its process ended.

    From the file that Tune has just written: `trial.get_pickled_error` reads the storage, where it is copied later.
    """
    file = trial.pickled_error_file
    error = pickle.loads(Path(file).read_bytes()) if file and Path(file).exists() else None  # noqa: S301
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, FreshProcessError) else None


def trial_event(record: TrialRecord, value: float | None) -> dict[str, Any]:
    """Return the event `trial`; `value` is the sweep's metric, of the last epoch or the best."""
    return {
        "event": "trial",
        "trial": record.trial,
        "state": record.state,
        "params": record.params,
        "epochs": record.epochs,
        "metric": value,
        "elapsed": round((record.ended or time.time()) - (record.started or time.time()), 1),
        "reason": record.reason,
    }
