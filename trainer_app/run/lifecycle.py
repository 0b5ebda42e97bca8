"""The life cycle of a run in this process: decide what there is to do, drive it, record it, release it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from trainer_app.errors import FAILED_FOR_GOOD, TrainerError
from trainer_app.run import cron_dedup, decision, lease, lease_file, logs
from trainer_app.run.completion import completion_event
from trainer_app.run.decision import Decision
from trainer_app.run.drive import LoadDriver, Outcome, run_driver
from trainer_app.run.interrupt import INTERRUPTED, Interrupts
from trainer_app.run.prepare import check_name_free
from trainer_app.run.replay import answer_stop, emit_note, linger_after_stop, replay_end
from trainer_app.run.request import PreparedRun
from trainer_app.run.require import require, require_parts
from trainer_app.run.watch import Emit, Event
from trainer_app.storage.retrying import saying


class Display(Protocol):
    """Who shows the life cycle to a user.

    Events are those of the run, and `note` {text}, `error` {error} and `complete` {text, end}, which no record has.
    """

    def emit(self, event: Event) -> None:
        """Show an event that comes before or after the driver."""

    def show_driver(self, drive: Callable[[Emit, Interrupts], Outcome]) -> Outcome:
        """Call `drive` with who takes the driver's events and who handles signals, and show how it ended."""


def run_prepared(
    prepared: PreparedRun, display: Display, *, load_driver: LoadDriver, log: Path | None, test: bool
) -> Outcome:
    """Run what was prepared, from the first look at its storage to its record.

    Args:
        load_driver: imports the driver, with torch and Ray.
        log: the file of the driver's output; None if it goes to stderr.
        test: score the best checkpoint on the test split at the end.

    Returns:
        the exit code, which is the same however often a submission is tried again, and the driver's error.
    """
    with saying(partial(emit_note, display.emit)):
        outcome = _run(prepared, display, load_driver, log=log, test=test)
    if prepared.submission and outcome.exit_code == 1 and _has_failed_for_good(prepared, prepared.submission):
        return replace(outcome, exit_code=FAILED_FOR_GOOD)
    return outcome


def _has_failed_for_good(prepared: PreparedRun, submission: str) -> bool:
    """Return whether the submission's next attempt would only report again how the run failed."""
    with suppress(TrainerError):  # the storage does not answer: the next attempt finds out
        todo = decision.decide(prepared.storage, prepared.name, submission)
        return todo.what == "replay" and todo.record is not None and todo.record.state == "failed"
    return False


def _run(prepared: PreparedRun, display: Display, load_driver: LoadDriver, *, log: Path | None, test: bool) -> Outcome:
    """Decide what there is to do and do it; of a submission the exit code of a failure is that of any command."""
    if prepared.resume and not prepared.submission and not test and (event := completion_event(prepared)):
        display.emit(event)
        return Outcome(0)
    if prepared.submission and _another_run_has_tick(prepared, display):
        return Outcome(0)
    todo = _decide(prepared, display)
    if todo.what == "replay" and todo.record is not None:
        return Outcome(replay_end(prepared, todo.record, display.emit))
    prepared = replace(prepared, resume=todo.what == "resume")
    try:
        if todo.what == "stopped":
            return Outcome(answer_stop(prepared, todo.record, display.emit))
        outcome = _drive(prepared, todo, display, load_driver, log=log, test=test)
        if prepared.submission and isinstance(outcome.error, TrainerError):
            _record_failed_start(prepared, outcome.error, display)
    finally:
        lease.release(prepared.run_store)
    if prepared.submission and outcome.exit_code == INTERRUPTED:
        linger_after_stop(prepared.run_store, display.emit)
    return outcome


def _another_run_has_tick(prepared: PreparedRun, display: Display) -> bool:
    """Return whether the cron schedule's tick that started this run is another run's; if so, say it."""
    other = cron_dedup.owner_of_tick(prepared.storage, prepared.name)
    if other is not None:
        reason = f"KubeRay triggered the schedule twice, and run {other} was first"
        emit_note(display.emit, f"run {prepared.name}: {reason}; nothing was started")
    return other is not None


def _decide(prepared: PreparedRun, display: Display) -> Decision:
    """Return what there is to do: of a submission under the run's lease, unless it is a replay.

    The driver of a run that a user starts here takes the lease itself, once torch and Ray are imported. What would
    refuse it then is refused now.
    """
    if prepared.submission:
        say = partial(emit_note, display.emit)
        return decision.decide_under_lease(
            prepared.storage, prepared.name, prepared.submission, task=prepared.task, say=say
        )
    _require_train(prepared)
    if prepared.resume:
        lease_file.check_not_held(prepared.run_store)
        return Decision("resume")
    check_name_free(prepared.storage, prepared.name, task=prepared.task)
    return Decision("create")


def _require_train(prepared: PreparedRun) -> None:
    """Raise TrainerError if the extra [train] is missing, or one that the run file's parts need."""
    require("torch", "lightning", "ray", what=f"trainer {prepared.task}")
    require_parts(prepared.config)


def _drive(
    prepared: PreparedRun, todo: Decision, display: Display, load_driver: LoadDriver, *, log: Path | None, test: bool
) -> Outcome:
    """Run the driver; what a submitted one prints is kept in the run's storage."""
    _require_train(prepared)
    uploads: AbstractContextManager[Any] = nullcontext()
    if prepared.submission:
        number = logs.number_of_log(prepared.run_store, todo.record.attempt + 1 if todo.record else 1)
        uploads = logs.driver_uploader(lease.fence(prepared.run_store), number, log)
    with uploads:
        return display.show_driver(
            lambda emit, interrupts: run_driver(prepared, load_driver, emit, interrupts, log=log, test=test)
        )


def _record_failed_start(prepared: PreparedRun, error: TrainerError, display: Display) -> None:
    """Record what kept a run from being created: the submission's next attempt reports it without trying again."""
    metric, mode = prepared.config.selection_metric(prepared.task)
    fields = {"task": prepared.task, "metric": metric, "mode": mode}
    try:
        decision.record_failed_start(prepared.storage, prepared.name, prepared.submission or "", error, **fields)
    except TrainerError as e:  # the error itself has been shown
        emit_note(display.emit, f"what went wrong was not recorded: {e}")
