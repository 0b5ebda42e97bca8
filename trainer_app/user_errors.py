"""Exceptions of the user's code: as one line that names the user's own, and as errors that any process can read."""

from __future__ import annotations

import os
import re
import sys
import sysconfig
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from trainer_app.errors import TrainerError, UserError
from trainer_app.formatting import one_line

_MAX_LENGTH: Final = 1000
_STDLIB: Final = sysconfig.get_paths()["stdlib"]
_HERE: Final = Path(__file__).parent
_WRAPS_EXIT: Final = "/wandb/sdk/lib/exit_hooks.py"  # W&B puts its own function in the place of sys.exit
_LIBRARIES: Final = {"torch", "lightning", "pytorch_lightning", "ray", "jsonargparse", "torchmetrics", "numpy"}
_IN_TEXT: Final = re.compile(r'File "([^"\n]+)", line (\d+)')
_COLLECTIVE: Final = re.compile(r"Connection (closed|reset) by peer|\[[^]]*/gloo/|NCCL error", re.IGNORECASE)
Frame = tuple[str, int]  # of a stack: file and line
_MAY_PASS: Final = {"DistError", "OutOfMemoryError"}  # another rank's failure; memory that another process still had


@dataclass
class FitProgress:
    """How far a fit has come: an error before its first batch comes again, unless the same parts were built before.

    Args:
        resumed: whether it started from a commit.
        trainer: its Trainer, from when it is built until `plain_errors` ends.
    """

    resumed: bool = False
    trainer: Any = None

    @property
    def has_begun(self) -> bool:
        """Whether a batch was trained."""
        return self.resumed or (
            self.trainer is not None and self.trainer.fit_loop.epoch_loop.batch_progress.total.ready > 0
        )


@contextmanager
def plain_errors(progress: FitProgress | None = None, let_pass: type[BaseException] = TrainerError) -> Iterator[None]:
    """Raise what the user's code raises as a UserError: not every exception survives pickle, as its class may not.

    Our own errors pass as they are, and so do Ctrl-C and the SystemExit with which Ray ends a trial.

    Args:
        progress: of the fit, which tells whether the next try would raise the error too; None if there is no fit.
        let_pass: a class of errors that pass as they are too.

    Raises:
        UserError: the code inside raised something else.
    """
    exit_process = os._exit
    os._exit = _make_exit(exit_process)  # type: ignore[assignment]
    try:
        yield
    except BaseException as error:
        if isinstance(error, (TrainerError, let_pass)) or _is_no_error(error):
            raise
        if isinstance(error, SystemExit) and error.__context__ and _is_no_error(error.__context__):
            raise error.__context__ from None  # Lightning calls exit(1) at Ctrl-C
        raise make_user_error(error, progress) from error
    finally:
        os._exit = exit_process
        if progress:
            progress.trainer = None  # it holds the fit's data, and the files that are open for it


class OsExit(SystemExit):
    """What `os._exit` raises in the thread of a fit: a process that it ended could not say why."""


def _make_exit(exit_process: Callable[[int], NoReturn]) -> Callable[[int], NoReturn]:
    """Return an `os._exit` that raises OsExit in this thread, and ends the process in others and in forked ones."""
    caller = os.getpid(), threading.get_ident()

    def exit_here(status: int) -> NoReturn:
        if (os.getpid(), threading.get_ident()) == caller:
            raise OsExit(status)
        exit_process(status)

    return exit_here


def make_user_error(error: BaseException, progress: FitProgress | None = None) -> UserError:
    """Return an exception as plain text, with whether the next try would raise it too."""
    context = error.__context__
    if isinstance(error, ValueError) and isinstance(context, KeyboardInterrupt) and "main thread" in str(error):
        error = context  # Lightning answers it by setting a signal handler, which a worker's thread can't
    trainer = progress.trainer if progress else None
    return UserError(
        describe_error(error),
        format_traceback(error),
        comes_again=progress is not None and not progress.has_begun and not _may_pass(error),
        signature=(type(error).__name__, _position(error), trainer.global_step) if trainer is not None else None,
    )


def describe_error(error: BaseException) -> str:
    """Return `ValueError: boom (file.py:12)` with the last line of the user's code; our own errors as they are."""
    if isinstance(error, TrainerError):
        return _message(error)
    name, position = type(error).__name__, _position(error)
    place = f" ({position})" if position else ""
    text = _message(error) or "no message"
    return f"{name}: {text[: _MAX_LENGTH - len(name) - len(place) - 2]}{place}"


def format_traceback(error: BaseException) -> str:
    """Return the traceback of what was raised, also if a worker process sent it as text."""
    return error.traceback if isinstance(error, UserError) else "".join(traceback.format_exception(error))


def _is_no_error(error: BaseException) -> bool:
    if isinstance(error, KeyboardInterrupt):
        return threading.current_thread() is threading.main_thread()
    if not isinstance(error, SystemExit | GeneratorExit):
        return False
    files = [file for file, *_ in _frames(error) if not file.endswith(_WRAPS_EXIT)]
    return bool(files) and "/site-packages/ray/" in files[-1]


def _may_pass(error: BaseException) -> bool:
    bases = {base.__name__ for base in type(error).__mro__}
    return bool(bases & _MAY_PASS) or is_collective_error(error)


def is_collective_error(error: BaseException) -> bool:
    """Return whether an error is an operation of all ranks that failed: what another rank did may be the cause."""
    return bool(_COLLECTIVE.search(_message(error)))


def find_line(frames: Sequence[Frame]) -> str:
    """Return `file.py:12`, the last line of the user's code in a stack, "" if there is none."""
    own = [frame for frame in frames if is_user_file(frame[0])]
    return f"{_short(own[-1][0])}:{own[-1][1]}" if own else ""


def is_user_file(file: str) -> bool:
    """Return whether a file of Python is in the user's own folders: not this package's, nor one that is installed."""
    return _distance(file) == 0


def _message(error: BaseException) -> str:
    """Return the message of an exception on one line, whatever its class does."""
    if isinstance(error, SystemExit):
        function = "os._exit" if isinstance(error, OsExit) else "sys.exit"
        return f"the user's code called {function}({'' if error.code is None else repr(error.code)})"
    try:
        text = str(error.msg if isinstance(error, SyntaxError) else error)
    except Exception as problem:  # noqa: BLE001 - the user's __str__
        text = f"its message can't be read: __str__ raised {type(problem).__name__}"
    caught, original, lines = text.partition("\nOriginal Traceback")
    if original:  # of a data loader's process
        last = lines.strip().splitlines()[-1]
        text = last.partition(": ")[2] if isinstance(error, TrainerError) else f"{caught} {last}"
    if isinstance(error, BaseExceptionGroup):
        text += f": {'; '.join(describe_error(inner) for inner in error.exceptions)}"
    return one_line(text)


def _position(error: BaseException) -> str:
    """Return `file.py:12`, the last line of the user's code; of any code if there is none; "" if nothing was raised."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_short(error.filename)}:{error.lineno}"
    frames = [frame for frame in _frames(error) if not frame[0].startswith("<")]
    if not frames:
        return ""
    nearest = min(_distance(file) for file, _ in frames)
    file, line = [frame for frame in frames if _distance(frame[0]) == nearest][-1]
    return f"{_short(file)}:{line}"


def _frames(error: BaseException) -> list[Frame]:
    """Return (file, line) of each call that led to the error, also of those in a data loader's process."""
    here = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    told = str(error.args[0]) if error.args and isinstance(error.args[0], str) else ""
    there = _IN_TEXT.findall(told.partition("\nOriginal Traceback")[2])
    return [*here, *((file, int(line)) for file, line in there)]


def _distance(file: str) -> int:
    """Return 0 for the user's own folders, 1 for an installed package, 2 for libraries and this package."""
    path = Path(file)
    if path.is_relative_to(_HERE):
        return 0 if path.relative_to(_HERE).parts[0] in ("examples", "data") else 2
    if "site-packages" in path.parts:
        package = path.parts[path.parts.index("site-packages") + 1 :][:1]
        return 2 if package and package[0] in _LIBRARIES else 1
    return 2 if path.is_relative_to(_STDLIB) else 0


def _short(file: str) -> str:
    """Return a file's path below the folder that it was imported from."""
    folders = [folder for folder in sys.path if folder and file.startswith(folder.rstrip("/") + "/")]
    return str(Path(file).relative_to(max(folders, key=len))) if folders else file
