"""The runs of a storage: one listing, then one small GET a run, in parallel."""

from __future__ import annotations

from dataclasses import dataclass

from trainer_app.errors import NotFoundError, StorageError
from trainer_app.records import RunRecord
from trainer_app.records.models import parse_run_record
from trainer_app.results.model import silence
from trainer_app.storage import Store, open_store
from trainer_app.storage.parallel import map_parallel


@dataclass(frozen=True)
class RunSummary:
    """One run of a storage. `record` is None if it is damaged: `problem` says why. `done`, `best`: see `RunRecord`."""

    name: str
    uri: str
    record: RunRecord | None
    done: int | None = None
    best: float | None = None
    last_sign: float = 0.0
    problem: str | None = None

    def silent_for(self, now: float) -> float | None:
        """Return what `RunResults.silent_for` does."""
        return silence(self.record, self.last_sign, now)


def list_runs(storage_uri: str) -> list[RunSummary]:
    """Return all runs, newest first, damaged ones last, as their run.json says: a driver updates it while it runs.

    Raises:
        StorageError: the storage gives no answer.
    """
    return _read_all(open_store(storage_uri))


def newest_run(storage_uri: str) -> str:
    """Return the name of the run created last.

    Raises:
        NotFoundError: there is none.
    """
    storage = open_store(storage_uri)
    runs = [run for run in _read_all(storage) if run.record]
    if not runs:
        raise NotFoundError(f"there are no runs in {storage.uri}; start one with trainer train or trainer tune")
    return runs[0].name


def _read_all(storage: Store) -> list[RunSummary]:
    summaries = map_parallel(lambda name: _read_record(storage, name), storage.list_folders())
    runs = [summary for summary in summaries if summary is not None]
    return sorted(runs, key=lambda run: (-(run.record.created if run.record else 0.0), run.name))


def _read_record(storage: Store, name: str) -> RunSummary | None:
    store = storage.child(name)
    try:
        record = parse_run_record(store.get("run.json"), name, f"{name}/run.json")
    except NotFoundError:  # not a run
        return None
    except StorageError as error:
        return RunSummary(name, store.uri, None, problem=str(error))
    return RunSummary(name, store.uri, record, record.done, record.best, record.updated)
