"""`trainer train` and `trainer tune`: from words to a driver that runs, with a screen, a log and a clean end."""

from __future__ import annotations

import logging
import os
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from trainer_app.cli import arguments, interrupt, redirect, require, resume_check
from trainer_app.cli.options import Items, Name
from trainer_app.cli.screen import Screen, open_screen, write_now
from trainer_app.errors import RunInterruptedError, TrainerError
from trainer_app.formatting import command, error_text, one_line
from trainer_app.results.view import View
from trainer_app.run import identity, lease, logs, user_code
from trainer_app.run.cluster import prepare_environment
from trainer_app.storage import Store, open_store

_log = logging.getLogger(__name__)
_SHOW_CURSOR: Final = "\x1b[?25h"

Resume = Annotated[
    str | None,
    typer.Option(metavar="RUN", help="Go on with this run, by its name, path or URI; FILE may be left out."),
]
Storage = Annotated[str | None, typer.Option(metavar="URI", help="Short for storage.uri=URI.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line, and nothing else, on stdout.")]
Log = Annotated[str | None, typer.Option(metavar="FILE", help="Where Ray's and Lightning's output goes; - for stderr.")]
Test = Annotated[bool, typer.Option("--test", help="At the end, score the best checkpoint on the test split.")]


def train(
    items: Items = None,
    name: Name = None,
    resume: Resume = None,
    storage: Storage = None,
    json: Json = False,
    log: Log = None,
    test: Test = False,
) -> int:
    """Train the model of a run file, on this machine or on the Ray cluster that RAY_ADDRESS names."""
    return start(arguments.Asked("train", items or (), name, resume, storage), as_json=json, log=log, test=test)


def tune(
    items: Items = None,
    name: Name = None,
    resume: Resume = None,
    storage: Storage = None,
    json: Json = False,
    log: Log = None,
    test: Test = False,
) -> int:
    """Search the space of a run file for its best trial, on this machine or on the cluster that RAY_ADDRESS names."""
    return start(arguments.Asked("tune", items or (), name, resume, storage), as_json=json, log=log, test=test)


def start(asked: arguments.Asked, *, as_json: bool, log: str | None, test: bool) -> int:
    """Check what was asked for, then run it.

    Returns:
        The exit code.

    Raises:
        InputError: bad input, nothing was started. TrainerError: the `[train]` extra is missing.
    """
    prepared = arguments.prepare(asked)
    submission = None if asked.resume else identity.current_submission()
    if prepared.resume and not submission and not test and resume_check.told(asked.task, prepared, as_json=as_json):
        return 0
    path = redirect.log_path(log, prepared.name, prepared.config.storage.uri)
    if submission:
        return _submitted(asked.task, prepared, submission, path, as_json=as_json, test=test)
    _need_extra(asked.task)
    if prepared.resume:
        lease.check_not_held(_store(prepared))
    else:
        _need_free_name(asked.task, prepared)
    return _session(asked.task, prepared, path, as_json=as_json, test=test)[0]


def _session(
    task: str, prepared: arguments.Prepared, path: Path | None, *, as_json: bool, test: bool
) -> tuple[int, TrainerError | None]:
    """The exit code, and the error of ours that the driver ended with."""
    with redirect.to_log(path) as real:
        view = _view(task, prepared, str(path) if path else None)
        session = Session(task, prepared, view, real, as_json=as_json, test=test)
        return session.run(), session.error


def _submitted(
    task: str, prepared: arguments.Prepared, submission: str, path: Path | None, *, as_json: bool, test: bool
) -> int:
    """Create the run, go on with it, or say again how it ended: whatever the operator repeats ends the same."""
    from trainer_app.cli import submission as submitted

    if submitted.another_has_it(prepared):
        return 0
    decision = submitted.begin(task, prepared, submission)
    record = decision.record
    if decision.what == "replay" and record is not None:
        return submitted.replay(prepared, _view(task, prepared, None), record, as_json=as_json)
    if decision.what == "stopped":
        return submitted.stopped(prepared, record)
    prepared, store = replace(prepared, resume=decision.what == "resume"), _store(prepared)
    try:
        _need_extra(task)
        with logs.driver_uploader(store, record.attempt + 1 if record else 1, path):
            code, error = _session(task, prepared, path, as_json=as_json, test=test)
        if error is not None:
            submitted.record_failed_start(task, prepared, submission, error)
    finally:
        lease.release(store)
    if code == interrupt.INTERRUPTED:
        submitted.linger(store)
    return code


def _need_extra(task: str) -> None:
    require.need("torch", "lightning", "ray", what=f"trainer {task}")


def _store(prepared: arguments.Prepared) -> Store:
    """The run's."""
    return open_store(prepared.config.storage.uri).child(prepared.name)


def _need_free_name(task: str, prepared: arguments.Prepared) -> None:
    """A name that is taken, or a storage that refuses us, is told before torch and Ray are imported."""
    from trainer_app.run.prepare import check_name_free

    check_name_free(open_store(prepared.config.storage.uri), prepared.name, task=task)


def _view(task: str, prepared: arguments.Prepared, log: str | None) -> View:
    config = prepared.config
    metric, mode = config.selection_metric(task)
    return View(task=task, run=prepared.name, uri=config.storage.uri, log=log, metric=metric, mode=mode)


@dataclass
class Session:
    """One driver under a screen. `run` ends with an exit code, whatever the driver does."""

    task: str
    prepared: arguments.Prepared
    view: View
    real: redirect.Real
    as_json: bool
    test: bool
    error: TrainerError | None = None

    def run(self) -> int:
        """Run the driver, show its events, and say how it ended."""
        screen = open_screen(self.view, self.real.out, self.real.err, as_json=self.as_json)
        interrupts = interrupt.Interrupts(screen.say, self._kill)
        started = time.monotonic()
        with interrupt.installed(interrupts):
            try:
                code, words = self._drive(screen, interrupts)
            finally:
                self._last_event(screen, time.monotonic() - started, interrupted=interrupts.requested)
                screen.close()
        self._tell(words, code)
        return code

    def _drive(self, screen: Screen, interrupts: interrupt.Interrupts) -> tuple[int, str]:
        """(exit code, what to say on stderr)."""
        try:
            code = self._driver()(screen.emit)
        except (KeyboardInterrupt, RunInterruptedError):
            return interrupt.INTERRUPTED, ""
        except TrainerError as e:
            _log.exception("%s failed", self.task)
            self.error = e
            if interrupts.requested:
                return interrupt.INTERRUPTED, ""
            return e.exit_code, self._with_traceback(error_text(e))
        except Exception as e:  # noqa: BLE001 - the last place that can say where the traceback is
            _log.exception("internal error")
            if interrupts.requested:  # an end in the middle of something: the log has it
                return interrupt.INTERRUPTED, ""
            what = one_line(f"{type(e).__name__}: {e}")
            return 1, self._with_traceback(f"internal error: {what}; see {self.view.log or 'above'}")
        return (interrupt.INTERRUPTED if code and interrupts.requested else code), ""

    def _driver(self) -> Callable[[Callable[[dict[str, Any]], None]], int]:
        """Torch, Lightning and Ray are imported here: 5 to 10 s when the disk is cold."""
        prepare_environment(self.prepared.folders)  # Ray reads it when it is imported
        user_code.install(_store(self.prepared), os.environ.get(user_code.CODE, ""))
        run = import_module("trainer_app.driver").run
        given = self.prepared
        more = {"test": True} if self.test else {}
        name, log = given.name, self.view.log
        return lambda emit: run(self.task, given.config, name=name, resume=given.resume, emit=emit, log=log, **more)

    def _last_event(self, screen: Screen, elapsed: float, *, interrupted: bool) -> None:
        """Readers of events can rely on an `end`, if anything was begun."""
        if self.view.end is None and self.view.begun:
            state = "interrupted" if interrupted else "failed"
            end = {"event": "end", "run": self.view.run, "state": state, "seconds": elapsed, "best": None}
            screen.emit({**end, "error": None, "uri": self.view.uri})

    def _tell(self, words: str, code: int) -> None:
        lines = [words] if words else []
        if code in (1, interrupt.INTERRUPTED) and self.view.begun:
            storage = open_store(self.prepared.config.storage.uri).uri  # absolute: it works from any folder
            resume = command("trainer", self.task, "--resume", self.view.run, "--storage", storage)
            lines.append(f"{'interrupted; ' if code == interrupt.INTERRUPTED else ''}go on with: {resume}")
        elif code == interrupt.INTERRUPTED:
            lines.append("interrupted before the run began")
        if lines:
            write_now(self.real.err, "\n".join(lines) + "\n")

    def _with_traceback(self, text: str) -> str:
        return f"{traceback.format_exc()}{text}" if os.environ.get("TRAINER_DEBUG") == "1" else text

    def _kill(self) -> None:
        """Raylet, GCS and workers watch their parent and are gone 3 s later, Ray's dashboard agents within a minute."""
        if self.real.out.isatty():
            write_now(self.real.out, _SHOW_CURSOR)
        os._exit(interrupt.INTERRUPTED)
