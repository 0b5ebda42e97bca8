"""What the list of runs shows, read by one thread: a request never waits for the storage."""

from __future__ import annotations

import itertools
import logging
import re
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any, Final

from trainer_app.errors import StorageError, StorageUnavailableError
from trainer_app.formatting import one_line
from trainer_app.metric_order import sort_key
from trainer_app.redact import redact_text
from trainer_app.results.listing import RunSummary, read_summary
from trainer_app.storage import Store
from trainer_app.storage.parallel import map_parallel

BATCH: Final = 200  # runs that are read before what is known of them is shown
AGAIN: Final = 300  # ended runs that are read again in a round: one may have been resumed
REFRESH_S: Final = 5.0
_TIME_AT_END: Final = re.compile(r"-(\d{12})$")  # of a name that trainer made
_log = logging.getLogger(__name__)
Row = dict[str, Any]


class RunIndex:
    """The runs of a storage: a row each, a kilobyte in memory."""

    def __init__(self, storage: Store) -> None:
        self.storage = storage
        self.rows: dict[str, Row] = {}
        self.known = 0  # names in the storage
        self.problem = ""  # why the storage could not be read, the last time
        self._oldest_first: list[str] = []
        self._rebuilds = itertools.count(1)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="run index", daemon=True)

    def start(self) -> RunIndex:
        """Read in the background, from now on."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """End the thread; it finishes the requests it has begun."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._rebuilds = itertools.count(1)
            try:
                self.refresh()
                self.problem = ""
            except StorageError as error:
                self.problem = str(error)
            except Exception:  # noqa: BLE001 - a list that stays empty without a word is worse than any error
                if self._stop.is_set():  # the process ends: no thread and no connection begins any more
                    return
                _log.exception("the list of runs could not be read")
                self.problem = "the list of runs could not be read: the server's log says why"
            self._stop.wait(REFRESH_S)

    def refresh(self) -> None:
        """Read what is new, what runs, and some of what has ended; the newest first, by the time in their names."""
        names = self.storage.list_folders()
        self.known = len(names)
        for gone in self.rows.keys() - set(names):
            del self.rows[gone]
        new = [name for name in names if name not in self.rows]
        running = [name for name, row in list(self.rows.items()) if row["state"] == "running"]
        ended = self.rows.keys() - set(running)
        queue = dict.fromkeys(name for name in self._oldest_first if name in ended)
        oldest_first = [*(ended - queue.keys()), *queue]  # the first: a round that ended early has not read them
        again, self._oldest_first = oldest_first[:AGAIN], oldest_first[AGAIN:]
        for batch in _batches([*running, *sorted(new, key=_newest_first), *again]):
            if self._stop.is_set():
                return
            for name, row in zip(batch, map_parallel(self._read, batch), strict=True):
                self._keep(name, row)

    def _read(self, name: str) -> Row | None:
        try:
            summary = read_summary(self.storage, name, self._rebuilds)
        except StorageUnavailableError:
            raise
        except Exception as error:  # one folder hides no other run
            if self._stop.is_set():
                raise
            _log.exception("run %s could not be read", name)
            summary = RunSummary(name, self.storage.uri, None, problem=one_line(f"{type(error).__name__}: {error}"))
        return make_row(summary) if summary else None

    def _keep(self, name: str, row: Row | None) -> None:
        if row is None:  # a folder that is no run
            self.rows.pop(name, None)
            self.known -= 1
            return
        self.rows[name] = row
        if row["state"] != "running":
            self._oldest_first.append(name)

    def page(
        self, *, text: str = "", state: str = "", tag: str = "", sort: str = "created", offset: int = 0, limit: int = 50
    ) -> dict[str, Any]:
        """Return some rows as a document.

        Args:
            text: words that the name, metric, error or a tag must have, in any letter case.
            state, tag: "" for any.
            sort: a column; with a minus the smallest first.
            offset, limit: which of the rows that are left.
        """
        everything, words = list(self.rows.values()), text.casefold().split()
        rows = [row for row in everything if _matches(row, words, state, tag)]
        column, down = sort.removeprefix("-"), not sort.startswith("-")
        rows.sort(key=lambda row: row["name"])
        rows.sort(key=lambda row: _order(row.get(column), down=down))
        return {
            "uri": redact_text(self.storage.uri),
            "rows": rows[offset : offset + limit],
            "matching": len(rows),
            "read": len(everything),
            "known": max(self.known, len(everything)),
            "states": sorted({row["state"] for row in everything}),
            "tags": sorted({tag for row in everything for tag in row["tags"]})[:200],
            "problem": self.problem,
            "time": time.time(),
        }


def make_row(run: RunSummary) -> Row:
    """Return what the list shows of a run; a damaged one has the state `damaged` and says why in `error`."""
    record = run.record
    if record is None:
        return {"name": run.name, "state": "damaged", "error": run.problem or "", "tags": [], "task": ""}
    return {
        "name": run.name,
        "task": record.task,
        "state": record.state,
        "created": record.created,
        "updated": run.last_sign,
        "silent": run.silent_for(time.time()),
        "done": run.done,
        "target": record.target[0],
        "unit": record.target[1],
        "metric": record.metric,
        "mode": record.mode,
        "best": run.best,
        "error": (record.error or run.problem or "")[:500],
        "tags": record.tags,
    }


def _matches(row: Row, words: Sequence[str], state: str, tag: str) -> bool:
    if (state and row["state"] != state) or (tag and tag not in row["tags"]):
        return False
    text = " ".join([row["name"], row.get("metric") or "", row["error"], *row["tags"]]).casefold()
    return all(word in text for word in words)


def _order(value: Any, *, down: bool) -> tuple[bool, Any]:
    """Sort numbers, or texts; what has no value comes last."""
    if isinstance(value, str):
        return (False, [-ord(letter) for letter in value] if down else [ord(letter) for letter in value])
    return sort_key(value, "max" if down else "min")


def _newest_first(name: str) -> tuple[bool, int, str]:
    match = _TIME_AT_END.search(name)
    return (match is None, -int(match[1]) if match else 0, name)


def _batches(names: Iterable[str]) -> Iterable[list[str]]:
    iterator = iter(names)
    while batch := list(itertools.islice(iterator, BATCH)):
        yield batch
