"""The driver of a submitted run: what it begins with, and what it says of a run that has ended already.

Imports no torch and no Ray: an end is told again in less than a second, however often the operator tries.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from trainer_app import results
from trainer_app.cli.screen import open_screen
from trainer_app.errors import InputError, TrainerError
from trainer_app.formatting import error_text
from trainer_app.records import RunFolder, RunRecord
from trainer_app.run import cron_dedup, decision, lease, stop
from trainer_app.storage import Store, open_store

if TYPE_CHECKING:
    from trainer_app.cli.arguments import Prepared
    from trainer_app.results.view import View

LINGER: Final = "TRAINER_STOP_LINGER_S"
LINGER_S: Final = 60.0
INTERRUPTED: Final = 130


def begin(task: str, prepared: Prepared, submission: str) -> decision.Decision:
    """What there is to do; unless it is a replay, the run's lease is this process's now."""
    storage = open_store(prepared.config.storage.uri)
    return decision.begin(storage, prepared.name, submission, task=task, say=_say)


def another_has_it(prepared: Prepared) -> bool:
    """Whether the run was fired for a time for which another one was: it says so, and is not begun."""
    other = cron_dedup.owner_of_tick(open_store(prepared.config.storage.uri), prepared.name)
    if other is not None:
        _say(f"run {prepared.name}: KubeRay fired the same time twice, and run {other} has it; nothing was started")
    return other is not None


def replay(prepared: Prepared, view: View, record: RunRecord, *, as_json: bool) -> int:
    """Say again how the run ended: its last words, its exit code, and the traceback of what is no mistake of input."""
    storage = open_store(prepared.config.storage.uri)
    folder = RunFolder.open(storage, record.name)
    found = results.read_run(storage, record.name)
    screen = open_screen(view, sys.stdout, sys.stderr, as_json=as_json)
    screen.emit(results.start_event(folder, prepared.config, log=None, resumed=True))
    screen.emit(results.end_event(folder, found, record.updated - record.created))
    screen.close()
    if record.traceback and record.state == "failed" and record.exit_code != InputError.exit_code:
        sys.stderr.write(f"{record.traceback.rstrip()}\n")
    _say(f"run {record.name} had {record.state} already, in attempt {record.attempt}: nothing was started")
    if record.state == "succeeded":
        return 0
    sys.stderr.write(f"{error_text(TrainerError(record.error or 'no reason was recorded'))}\n")
    return record.exit_code or 1


def stopped(prepared: Prepared, record: RunRecord | None) -> int:
    """Somebody asked for a stop before this attempt began: say so, in the run's storage too."""
    storage = open_store(prepared.config.storage.uri)
    store = storage.child(prepared.name)
    try:
        if record is not None and record.state == "running":
            RunFolder.open(storage, record.name).update(state="interrupted", error=None)
        if not stop.is_answered(store):
            stop.write_answer(store, _place(storage, record))
    finally:
        lease.release(store)
    _say(f"run {prepared.name}: a stop was asked for; nothing was started. `trainer resume` goes on with it")
    return INTERRUPTED


def _place(storage: Store, record: RunRecord | None) -> dict[str, Any]:
    """Where the run goes on: its newest checkpoint, or that of the unfinished trial that is furthest."""
    place: dict[str, Any] = {"epochs": 0, "step": 0, "commit": None}
    if record is None:
        return place
    fits = results.read_run(storage, record.name).fits
    places: dict[str | None, dict[str, Any]] = {
        fit.trial: {
            "epochs": fit.checkpoints[-1].epochs,
            "step": fit.checkpoints[-1].step,
            "commit": fit.checkpoints[-1].name,
        }
        for fit in fits
        if fit.checkpoints and not fit.ended
    }
    furthest = max(places.values(), key=lambda found: found["step"], default=place)
    return {**furthest, "trials": places} if record.task == "tune" else furthest


def record_failed_start(task: str, prepared: Prepared, submission: str, error: TrainerError) -> None:
    """What kept the run from being created is recorded, so that another try says it again instead of finding out."""
    metric, mode = prepared.config.selection_metric(task)
    storage = open_store(prepared.config.storage.uri)
    try:
        decision.record_failed_start(storage, prepared.name, submission, error, task=task, metric=metric, mode=mode)
    except TrainerError as e:  # the error itself has been told
        _say(f"what went wrong was not recorded: {e}")


def linger(store: Store) -> None:
    """After a stop that was asked for: wait to be suspended, up to TRAINER_STOP_LINGER_S seconds (60).

    For the operator a driver that ends with 130 has failed, and it starts the next attempt. Only a RayJob whose job
    still runs can be suspended.
    """
    if not stop.is_answered(store):
        return
    given = os.environ.get(LINGER) or str(LINGER_S)
    try:
        seconds = float(given)
    except ValueError as error:
        raise InputError(f"{LINGER} must be a number of seconds, not {given!r}") from error
    _say(f"stopped, as was asked for; waiting up to {seconds:g} s for the cluster to be suspended")
    time.sleep(seconds)


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
