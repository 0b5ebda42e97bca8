"""The driver, called: whatever it does, there is an exit code and a last event."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from trainer_app.errors import RunInterruptedError, TrainerError
from trainer_app.run import user_code, working_folder
from trainer_app.run.cluster import prepare_environment
from trainer_app.run.interrupt import INTERRUPTED, Interrupts
from trainer_app.run.request import PreparedRun
from trainer_app.run.watch import Emit, Event
from trainer_app.storage.retrying import saying

_log: Final = logging.getLogger(__name__)

Driver = Callable[..., int]
LoadDriver = Callable[[], Driver]


@dataclass(frozen=True)
class Outcome:
    """How a run ended in this process."""

    exit_code: int
    error: Exception | None = None  # what the driver raised, but for an interruption
    run: str | None = None  # the run's name, if its first event was emitted: it can be resumed


@dataclass
class _Progress:
    """Passes events on, and notes the run's first and last one."""

    receiver: Emit
    first: Event | None = None
    ended: bool = False

    def emit(self, event: Event) -> None:
        if event.get("event") == "run":
            self.first = event
        self.ended = self.ended or event.get("event") == "end"
        self.receiver(event)


def run_driver(
    prepared: PreparedRun, load_driver: LoadDriver, emit: Emit, interrupts: Interrupts, *, log: Path | None, test: bool
) -> Outcome:
    """Run the driver of a run to its end, and emit the event `end` if the driver did not.

    Args:
        load_driver: imports the driver, with torch and Ray.
        interrupts: knows whether the user asked for an end; what the driver does after that is an interruption.
        log: the file of the driver's output, for the run's first event; None if it goes to stderr.
        test: score the best checkpoint on the test split at the end.
    """
    progress, started = _Progress(emit), time.monotonic()
    try:
        options = {"log": str(log) if log else None, **({"test": True} if test else {})}
        with saying(lambda text: progress.emit({"event": "storage", "text": text})):
            outcome = _call_driver(prepared, load_driver, progress.emit, interrupts, options)
    finally:
        first = progress.first
        if first is not None and not progress.ended:
            state = "interrupted" if interrupts.requested else "failed"
            end = {"event": "end", "run": first.get("run", prepared.name), "state": state, "best": None, "error": None}
            uri = first.get("uri", prepared.config.storage.uri)
            emit({**end, "seconds": time.monotonic() - started, "uri": uri})
    return replace(outcome, run=first.get("run", prepared.name) if first else None)


def _call_driver(
    prepared: PreparedRun, load_driver: LoadDriver, emit: Emit, interrupts: Interrupts, options: dict[str, Any]
) -> Outcome:
    """Return the exit code, with the error if the driver raised one that is no interruption."""
    try:
        prepare_environment(prepared.folders)  # Ray reads it when it is imported
        installed = user_code.install(prepared.run_store, os.environ.get(user_code.CODE, ""))
        with _working_folder(prepared, installed):
            driver, name, resume = load_driver(), prepared.name, prepared.resume
            code = driver(prepared.task, prepared.config, name=name, resume=resume, emit=emit, **options)
    except (KeyboardInterrupt, RunInterruptedError):
        return Outcome(INTERRUPTED)
    except Exception as e:  # noqa: BLE001 - the last place that can say where the traceback is
        _log.exception("%s failed" if isinstance(e, TrainerError) else "internal error in %s", prepared.task)
        code = e.exit_code if isinstance(e, TrainerError) else 1
        return Outcome(INTERRUPTED if interrupts.requested else code, e)
    return Outcome(INTERRUPTED if code and interrupts.requested else code)


def _working_folder(prepared: PreparedRun, code: Path | None) -> AbstractContextManager[Any]:
    """Work in a folder that can be written, with the user's code in it, if this is a pod; its own is read-only."""
    if working_folder.ROOT not in os.environ:
        return nullcontext()
    sources = [*([code] if code else []), Path.cwd()]
    name = working_folder.name_folder("driver", prepared.name)
    return working_folder.entered(name, sources, storage=prepared.storage.uri, fill=lambda folder: None)
