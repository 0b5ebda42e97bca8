"""How far a run is, in its run.json while it runs: `trainer list` reads nothing else of it."""

from __future__ import annotations

from typing import Final, Self

from trainer_app.metric_order import is_better
from trainer_app.records import RunFolder
from trainer_app.results.view import ENDED
from trainer_app.run.guard import Guard
from trainer_app.run.watch import Emit, Event

EVERY_S: Final = 30.0


class RecordedProgress:
    """Writes `done`, `best` and `updated` every EVERY_S seconds, if an epoch or a trial has ended since.

    They are those of the events, and of the record before: a run's end sums up its storage.

    Args:
        emit: takes the events that go through this object's own `emit`.
    """

    def __init__(self, folder: RunFolder, emit: Emit) -> None:
        self._folder, self._emit = folder, emit
        self._done, self._best = folder.record.done, folder.record.best
        self._ended: set[str] = set()
        self._changed = False
        self._guard = Guard("the run's progress is recorded", self.write, every_s=lambda: EVERY_S)

    def emit(self, event: Event) -> None:
        """Pass an event on, and note what it says."""
        self._emit(event)
        record, kind, value = self._folder.record, event.get("event"), None
        if kind == "epoch":
            value = (event.get("metrics") or {}).get(record.metric)
            if record.task == "train":
                self._done = max(self._done or 0, event.get("epoch", -1) + 1)
        elif kind == "trial":
            value = event.get("metric")
            if event.get("state") in ENDED:
                self._ended.add(event["trial"])
                self._done = len(self._ended)
        else:
            return
        self._best = value if is_better(value, self._best, record.mode) else self._best
        self._changed = True

    def write(self) -> None:
        """Write what has changed. Raises StorageError; then it is written with the next change."""
        if self._changed:
            self._changed = False
            self._folder.update(done=self._done, best=self._best)

    def __enter__(self) -> Self:
        self._guard.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._changed = False  # what the run's end writes is newer
        self._guard.stop(wait_s=10)
