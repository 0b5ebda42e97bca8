"""The runs of a storage: one listing, then one small GET a run, in parallel."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from trainer_app.errors import NotFoundError, StorageError, StorageUnavailableError
from trainer_app.records import RunRecord
from trainer_app.records.models import parse_run_record
from trainer_app.records.rebuild import read_record
from trainer_app.results.model import silence
from trainer_app.storage import Store, open_store
from trainer_app.storage.parallel import map_parallel

REBUILDS: Final = 20  # of one listing; each reads three objects more and lists the run's folder


@dataclass(frozen=True)
class RunSummary:
    """One run of a storage. `done`, `best`: see `RunRecord`.

    `problem` says what is wrong with its run.json; `record` is None if it was not made again from the run's other
    objects: they don't suffice, or REBUILDS others were.
    """

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
    rebuilds = itertools.count(1)
    summaries = map_parallel(lambda name: read_summary(storage, name, rebuilds), storage.list_folders())
    runs = [summary for summary in summaries if summary is not None]
    return sorted(runs, key=lambda run: (-(run.record.created if run.record else 0.0), run.name))


def read_summary(storage: Store, name: str, rebuilds: Iterator[int]) -> RunSummary | None:
    """Return what the run's run.json says; None if the folder is no run's.

    Args:
        storage: the whole storage.
        name: the folder's.
        rebuilds: counts the damaged ones that are made again from other objects: REBUILDS at most.

    Raises:
        StorageUnavailableError: the storage gives no answer.
    """
    store, problem = storage.child(name), ""
    try:
        record = parse_run_record(store.get("run.json"), name, f"{name}/run.json")
    except StorageUnavailableError:  # it says nothing of the run
        raise
    except StorageError as error:
        try:
            if next(rebuilds) > REBUILDS:
                raise error
            record, problem = read_record(store)
        except NotFoundError:  # not a run
            return None
        except StorageUnavailableError:
            raise
        except StorageError:
            return RunSummary(name, store.uri, None, problem=str(error))
    return RunSummary(name, store.uri, record, record.done, record.best, record.updated, problem or None)
