"""`trainer train` and `trainer tune` on a screen: events shown, other output in a log, Ctrl-C, and how it ended."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Final

from trainer_app.cli import redirect
from trainer_app.cli.screen import Screen, open_screen, write_now
from trainer_app.errors import TrainerError
from trainer_app.formatting import clean_lines, command, error_text, one_line
from trainer_app.results.progress import ProgressReporter
from trainer_app.results.view import RunView
from trainer_app.run.drive import Driver, Outcome
from trainer_app.run.interrupt import INTERRUPTED, Interrupts, end_at_sigterm, installed
from trainer_app.run.lifecycle import run_prepared
from trainer_app.run.request import PreparedRun, RunRequest, prepare_run
from trainer_app.run.watch import Emit, Event

_SHOW_CURSOR: Final = "\x1b[?25h"


def start(request: RunRequest, *, as_json: bool, log: str | None, test: bool) -> int:
    """Check what is asked for, then run it; return the exit code.

    Args:
        log: the option --log: a path, `-` for stderr, None for the default file.
        test: score the best checkpoint on the test split at the end.

    Raises:
        InputError: bad input, nothing was started.
        TrainerError: the extra [train] is missing.
    """
    end_at_sigterm()
    prepared = prepare_run(request)
    path = redirect.log_path(log, prepared.name, prepared.config.storage.uri)
    session = Session(prepared, path, as_json=as_json, test=test)
    return run_prepared(prepared, session, load_driver=load_driver, log=path, test=test).exit_code


def load_driver() -> Driver:
    """Import the driver with torch, Lightning and Ray: 5 to 10 s when the disk is cold."""
    return import_module("trainer_app.driver").run


@dataclass
class Session:
    """A life cycle's display: on the command's own streams, but for the driver, whose output is redirected."""

    prepared: PreparedRun
    log: Path | None
    as_json: bool
    test: bool = False
    _screen: Screen | None = field(default=None, init=False)

    def emit(self, event: Event) -> None:
        """Show an event that comes before or after the driver."""
        match event.get("event"):
            case "note":
                print(clean_lines(event["text"]), file=sys.stderr, flush=True)
            case "error":
                print(error_text(TrainerError(event["error"])), file=sys.stderr, flush=True)
            case "complete" if not self.as_json:
                print(clean_lines(event["text"]))
            case "complete":
                open_screen(self._view(None), sys.stdout, sys.stderr, as_json=True).emit(event["end"])
            case kind:
                if self._screen is None:
                    self._screen = open_screen(self._view(None), sys.stdout, sys.stderr, as_json=self.as_json)
                self._screen.emit(event)
                if kind == "end":
                    self._screen.close()

    def show_driver(self, drive: Callable[[Emit, Interrupts], Outcome]) -> Outcome:
        """Call the driver under a screen; what it prints itself goes to the log."""
        with redirect.to_log(self.log) as original:
            screen = open_screen(self._view(self.log), original.out, original.err, as_json=self.as_json)
            interrupts = Interrupts(screen.say, lambda: _kill(original))
            with installed(interrupts):
                try:
                    outcome = drive(self._receiver(screen), interrupts)
                finally:
                    screen.close()
            lines = [*self._error_lines(outcome), *self._resume_lines(outcome)]
            if lines:
                write_now(original.err, "\n".join(lines) + "\n")
        return outcome

    def _receiver(self, screen: Screen) -> Emit:
        """Return who takes the driver's events: the screen; of a submitted run also the lines for its submitter."""
        reporter = ProgressReporter(screen.view, screen.say) if self.prepared.submission else None

        def receive(event: Event) -> None:
            screen.emit(event)
            if reporter:
                reporter.report(event)

        return receive

    def _view(self, log: Path | None) -> RunView:
        config, task = self.prepared.config, self.prepared.task
        metric, mode = config.selection_metric(task)
        name, path = self.prepared.name, str(log) if log else None
        return RunView(task=task, run=name, uri=config.storage.uri, log=path, metric=metric, mode=mode)

    def _error_lines(self, outcome: Outcome) -> list[str]:
        """The error, with its traceback if TRAINER_DEBUG=1; none of an interruption, which the log has."""
        error = outcome.error
        if error is None or outcome.exit_code == INTERRUPTED:
            return []
        text = f"internal error: {one_line(f'{type(error).__name__}: {error}')}; see {self.log or 'above'}"
        text = error_text(error) if isinstance(error, TrainerError) else text
        debug = os.environ.get("TRAINER_DEBUG") == "1"
        return ["".join(traceback.format_exception(error)) + text if debug else text]

    def _resume_lines(self, outcome: Outcome) -> list[str]:
        """The command that resumes the run, if it failed or was interrupted."""
        interrupted = outcome.exit_code == INTERRUPTED
        if outcome.run and (interrupted or outcome.exit_code == 1):
            storage = self.prepared.storage.uri  # absolute: it works from any folder
            options = ["--resume", outcome.run, "--storage", storage, *(["--test"] if self.test else [])]
            options += [word for name in self.prepared.config.checkpoint.allow for word in ("--allow", name)]
            elsewhere = [folder for folder in self.prepared.folders if folder != str(Path.cwd())]
            options += [word for folder in elsewhere for word in ("--import-from", folder)]
            resume = command("trainer", self.prepared.task, *options)
            return [f"{'interrupted; ' if interrupted else ''}resume with: {resume}"]
        return ["interrupted before the run began"] if interrupted else []


def _kill(original: redirect.OriginalStreams) -> None:
    """Raylet, GCS and workers watch their parent and are gone 3 s later, Ray's dashboard agents within a minute."""
    if original.out.isatty():
        write_now(original.out, _SHOW_CURSOR)
    os._exit(INTERRUPTED)
