"""A submitted run that this attempt does not drive: it has ended, or it was asked to stop.

Imports no torch and no Ray: the same end is reported in less than a second, however often the operator tries.
"""

from __future__ import annotations

import os
import time
from typing import Final

from trainer_app import results
from trainer_app.errors import InputError
from trainer_app.records import RunFolder, RunRecord
from trainer_app.run import ends, lease, stop
from trainer_app.run.attempt import START, stop_position
from trainer_app.run.interrupt import INTERRUPTED
from trainer_app.run.request import PreparedRun
from trainer_app.run.watch import Emit
from trainer_app.storage import Store

LINGER: Final = "TRAINER_STOP_LINGER_S"
LINGER_S: Final = 60.0


def emit_note(emit: Emit, text: str) -> None:
    """Emit a line for users that is no event of the run."""
    emit({"event": "note", "text": text})


def replay_end(prepared: PreparedRun, record: RunRecord, emit: Emit) -> int:
    """Emit how the run ended: its first and last event, its error, and the traceback unless the input was wrong.

    Args:
        record: the ended run's.

    Returns:
        the exit code that the run ended with.
    """
    folder = RunFolder.open(prepared.storage, record.name)
    run = results.read_outcome(prepared.storage, record.name)
    emit(results.start_event(folder, prepared.config, log=None, resumed=True))
    emit(results.end_event(folder, run, record.updated - record.created))
    if record.traceback and record.state == "failed" and record.exit_code != InputError.exit_code:
        emit_note(emit, record.traceback.rstrip())
    emit_note(emit, f"run {record.name} had {record.state} already, in attempt {record.attempt}: nothing was started")
    if record.state == "succeeded":
        return 0
    emit({"event": "error", "error": record.error or "no reason was recorded"})
    return record.exit_code or 1


def answer_stop(prepared: PreparedRun, record: RunRecord | None, emit: Emit) -> int:
    """Answer a stop that was requested before this attempt began, in the run's storage and to the user.

    Args:
        record: the run's; None if it never began.

    Returns:
        the exit code, that of an interruption.
    """
    folder = RunFolder.open(prepared.storage, record.name) if record else None
    if folder:
        folder.run_store = lease.fence(folder.run_store)
    if folder and folder.record.state == "running":
        reason = f"its driver was gone, and {ends.explain_stop(stop.read_request(folder.run_store) or {})}"
        folder.update(state="interrupted", error=None, reason=reason)
    if not stop.is_answered(prepared.run_store):
        position = stop_position(folder, folder.read_trials()) if folder else START
        stop.write_answer(lease.fence(prepared.run_store), position)
    emit_note(emit, f"run {prepared.name} was asked to stop: nothing was started; resume it with `trainer resume`")
    return INTERRUPTED


def linger_after_stop(run_store: Store, emit: Emit) -> None:
    """After a stop that was requested, wait to be suspended: up to TRAINER_STOP_LINGER_S seconds (60).

    For the operator a driver that ends with 130 has failed, and it starts the next attempt. Only a RayJob whose job
    still runs can be suspended.

    Raises:
        InputError: the variable is not a number.
    """
    if not stop.is_answered(run_store):
        return
    value = os.environ.get(LINGER) or str(LINGER_S)
    try:
        seconds = float(value)
    except ValueError as error:
        raise InputError(f"{LINGER} must be a number of seconds, not {value!r}") from error
    emit_note(emit, f"stopped as requested; waiting up to {seconds:g} s for the cluster to be suspended")
    time.sleep(seconds)
