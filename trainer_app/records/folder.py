"""Read and write the folder of a run in storage, and of each of its fits."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from trainer_app.errors import AlreadyExistsError, InputError, LeaseLostError, NotFoundError, StorageError, TrainerError
from trainer_app.records.lines import merge_metrics, parse_part_key
from trainer_app.records.models import AttemptRecord, EpochLine, RunRecord, TrialRecord, parse_trial_record
from trainer_app.records.names import check_name, suggest_name
from trainer_app.records.plain_json import to_json
from trainer_app.records.rebuild import read_record
from trainer_app.storage import Store, try_once
from trainer_app.storage.parallel import map_parallel

_log = logging.getLogger(__name__)
PART_LINES = 500  # about 100 kB, written whole at each epoch
_ATTEMPT = re.compile(r"a(\d{4,12})\.json$")


class FitFolder:
    """What one fit writes, a train run's own or a trial's: metrics and checkpoints."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.checkpoints = store.child("checkpoints")
        self._start = 0  # the number that this process has taken; 0 if none
        self._attempt = 0
        self._part = 0
        self._lines: list[bytes] = []

    def take_attempt(self, after: int) -> int:
        """Return the number of a new start of the fit: more than `after`, and no other process gets it.

        Two workers of one fit may live at once, one of them unknown to its driver. Commits and metrics have the number
        in their keys, so that neither writes into the other's.
        """
        number = max(after, self._newest_start())
        while True:
            number += 1
            try:
                self.store.put(f"attempts/a{number:04d}.json", to_json({"started": time.time()}), create=True)
            except AlreadyExistsError:
                continue
            self._start = number
            return number

    def check_newest(self) -> None:
        """Check that the fit was not started again since this process took its number.

        Raises:
            LeaseLostError: it was: what is written or deleted now is not what the new start has seen.
        """
        if self._start and (newest := self._newest_start()) > self._start:
            raise LeaseLostError(f"another worker has started this fit again, as attempt {newest}: this one ends")

    def record_end(self, state: str, reason: str) -> None:
        """Record how the fit's newest start ended, if it is tried again under the same driver. A failure is logged."""
        once = FitFolder(try_once(self.store))
        try:
            if number := once._newest_start():
                record = AttemptRecord(number=number, ended=time.time(), state=state, reason=reason)
                with suppress(AlreadyExistsError):  # what failed this time had not begun
                    once.store.put(f"attempts/a{number:04d}.end.json", record.to_json(), create=True)
        except TrainerError as error:
            _log.warning("why a start of the fit in %s ended was not recorded: %s", self.store.uri, error)

    def _newest_start(self) -> int:
        return max((int(match[1]) for e in self.store.list("attempts") if (match := _ATTEMPT.match(e.key))), default=0)

    def append_epoch(self, attempt: int, line: Mapping[str, Any]) -> None:
        """Append an epoch's line (the fields of `EpochLine`), in one PUT of the part that it belongs to.

        Each process starts a part of its own, numbered by one listing at its first line, so that a worker restarted
        within an attempt overwrites nothing of the one before it.
        """
        encoded = EpochLine.model_validate(line).to_json()
        if attempt != self._attempt:
            parts = [order[1] for order, _ in _parts(self.store) if order[0] == attempt]
            self._attempt, self._part, self._lines = attempt, max(parts, default=-1) + 1, []
        elif len(self._lines) >= PART_LINES:
            self._part, self._lines = self._part + 1, []
        self._lines.append(encoded)
        self.store.put(f"metrics/a{attempt:04d}-{self._part:04d}.jsonl", b"\n".join(self._lines) + b"\n")

    def read_metrics(self, reject: Callable[[str], None] = _log.warning) -> list[dict[str, Any]]:
        """Return the epochs' lines by epoch; of several lines of one epoch, the latest attempt's.

        A damaged line is left out, and `reject` is called with what is wrong with it.
        """
        return merge_metrics(((key, self.store.get(key)) for _, key in _parts(self.store)), reject)


class RunFolder:
    """A run's folder in storage. `record` is what was last read or written here.

    `problem` is what was wrong with run.json, if the record was made again from the run's other objects, else "".
    """

    def __init__(self, run_store: Store, record: RunRecord, problem: str = "") -> None:
        self.run_store = run_store
        self.record = record
        self.problem = problem
        self._lock = threading.Lock()  # of one change of the record

    @classmethod
    def create(cls, storage: Store, record: RunRecord, config_text: str) -> RunFolder:
        """Create the run's folder; of several creators at once one wins (`Store.put`).

        Args:
            storage: the whole storage.
            record: what run.json is to have; its `name` is the folder's.
            config_text: the run file, for run.yaml.

        Raises:
            AlreadyExistsError: there is a run of this name.
            InputError: no run can have this name.
        """
        run_store = storage.child(check_name(record.name))
        try:
            run_store.put("run.json", record.to_json(), create=True)
        except AlreadyExistsError as error:
            raise AlreadyExistsError(
                f"run {record.name!r} is in {storage.uri} already; resume it with --resume {record.name}, "
                "or choose another --name"
            ) from error
        run_store.put("run.yaml", config_text.encode())
        return cls(run_store, record)

    @classmethod
    def open(cls, storage: Store, run: str) -> RunFolder:
        """Open the folder of a run; a run.json that is damaged or gone is made again from the run's other objects.

        Raises:
            NotFoundError: there is no such run; the message has the most similar names.
            StorageError: run.json is damaged, and run.yaml can't be read either.
        """
        run_store = storage.child(run)
        try:
            return cls(run_store, *read_record(run_store))
        except NotFoundError as error:
            near = suggest_name(run, storage.list_folders(), what="runs")
            raise NotFoundError(f"there is no run {run!r} in {storage.uri}; {near}") from error

    @property
    def name(self) -> str:
        """The run's name."""
        return self.record.name

    @property
    def uri(self) -> str:
        """The URI of the run's folder."""
        return self.run_store.uri

    def read_config(self) -> str:
        """Return the text of run.yaml.

        Raises:
            NotFoundError: the run's start was interrupted before it was written. InputError: it is damaged.
        """
        try:
            return self.run_store.get("run.yaml").decode()
        except UnicodeDecodeError as error:
            raise InputError(f"{self.uri}: run.yaml is damaged: it is not UTF-8") from error
        except NotFoundError as error:
            raise NotFoundError(
                f"run {self.name!r} has no run.yaml: its start was interrupted; start it again, without --resume"
            ) from error

    def write_config(self, config_text: str) -> None:
        """Write the run file of the next attempt."""
        self.run_store.put("run.yaml", config_text.encode())

    def update(self, **changes: Any) -> RunRecord:
        """Write run.json with these fields changed and `updated` set to now; return the new record.

        Raises:
            TypeError: `RunRecord` has no such field.
        """
        unknown = sorted(changes.keys() - RunRecord.model_fields.keys())
        if unknown:
            raise TypeError(f"RunRecord has no field {', '.join(unknown)}")
        with self._lock:
            record = RunRecord.model_validate({**self.record.model_dump(), "updated": time.time(), **changes})
            self.run_store.put("run.json", record.to_json())
            self.record = record
        return record

    def fit_folder(self, trial: str | None = None) -> FitFolder:
        """Return the folder of a trial's fit, or of the train run's own."""
        return FitFolder(self.run_store.child(f"trials/{trial}") if trial else self.run_store)

    def read_trials(self) -> list[TrialRecord]:
        """Read the records of all trials, in parallel; return them by index.

        A damaged record is logged and left out: its trial is drawn again, and resumes from its newest commit.
        """
        records = map_parallel(self._trial, self.run_store.list_folders("trials"))
        return sorted((record for record in records if record), key=lambda record: record.index)

    def write_trial(self, record: TrialRecord) -> None:
        """Write a trial's trial.json."""
        self.run_store.put(f"trials/{record.trial}/trial.json", record.to_json())

    def _trial(self, name: str) -> TrialRecord | None:
        key = f"trials/{name}/trial.json"
        try:
            data = self.run_store.get(key)
        except NotFoundError:  # its first line of metrics came before its record
            return None
        try:
            return parse_trial_record(data, name, f"{self.uri}: {key}")
        except StorageError as error:
            _log.warning("%s; it is left out", error)
            return None


def _parts(store: Store) -> list[tuple[tuple[int, int], str]]:
    parts = [(parse_part_key(entry.key), f"metrics/{entry.key}") for entry in store.list("metrics")]
    return sorted((order, key) for order, key in parts if order is not None)
