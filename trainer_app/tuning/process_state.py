"""What a trial may change in its process, which the next trial uses again: recorded before it, restored after it.

What can't be restored is remembered: the next trial then asks for another process.
"""

from __future__ import annotations

import gc
import logging
import stat
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from ray.exceptions import RayActorError

from trainer_app.checkpoint import rng_state
from trainer_app.formatting import one_line
from trainer_app.training.loggers import end_runs
from trainer_app.tuning.process_settings import SETTINGS

Restore = Callable[[], None]

_unrestored: list[str] = []
# Files of Ray and of libraries, which stay open for the process, and devices.
_NOT_THE_USERS: Final = ("/dev/", "/proc/", "/sys/", "/usr/", sys.prefix, sys.base_prefix)


class FreshProcessError(RayActorError):
    """Asks Tune to start the trial again in another process: Tune ends a process whose trial raised.

    Args:
        left: what an earlier trial, or an earlier try, has set in this process for good.
        failure: the error after which the trial is tried again. Only then does Tune count it as a failure.
    """

    def __init__(self, left: str = "", failure: str = "") -> None:
        before = f"{failure}; it is tried again in" if failure else "it gets"
        text = f"{before} a new process, since this can't be restored after a trial: {left}"
        super().__init__(error_msg=text, preempted=not failure)
        self.failure = failure


def check_process(failure: str = "") -> None:
    """Raise FreshProcessError if a trial has set something in this process that can't be restored.

    Args:
        failure: the error after which this trial is tried again; "" before its first try.
    """
    if _unrestored:
        raise FreshProcessError(", ".join(_unrestored), failure)


@contextmanager
def restored_process() -> Iterator[None]:
    """Restore the process at the end: what one attempt of a trial sets, no other attempt and no other trial sees."""
    before = {name: _try(read) for name, (read, _) in SETTINGS.items()}
    restores = {"logging": _logging(), "the random generators": _random()}
    files = _open_files()
    with warnings.catch_warnings():
        try:
            yield
        except BaseException as error:
            _release_frames(error)
            raise
        finally:
            end_runs()
            left = [name for name, restore in restores.items() if isinstance(_try(restore), Exception)]
            left += [name for name, value in before.items() if not _restore_setting(name, value)]
            _unrestored.extend(name for name in (*left, *_left_open(files)) if name not in _unrestored)


def _release_frames(error: BaseException | None) -> None:
    """Clear the frames of an exception on its way up: they hold the data of a trial that was stopped, and its files."""
    released: set[int] = set()
    while error is not None and id(error) not in released:
        traceback.clear_frames(error.__traceback__)
        released.add(id(error))
        error = error.__cause__ or error.__context__


def _try(function: Callable[..., Any], *args: Any) -> Any:
    """Return what the function returns, or the exception: a trial's state must not take its result away."""
    try:
        return function(*args)
    except Exception as error:  # noqa: BLE001 - user code may have replaced anything
        return error


def _restore_setting(name: str, value: Any) -> bool:
    """Restore one setting; return whether it has the value, or had none that could be read."""
    read, write = SETTINGS[name]
    if isinstance(value, Exception) or _is_equal(_try(read), value):
        return True
    _try(write, value)
    return _is_equal(_try(read), value)


def _is_equal(one: Any, other: Any) -> bool:
    return _try(lambda: bool(one == other)) is True


def _open_files() -> set[str]:
    """Return the regular files of users that this process has open."""
    paths = set()
    for descriptor in Path("/proc/self/fd").iterdir() if Path("/proc/self/fd").is_dir() else ():
        with suppress(OSError):  # closed meanwhile
            path = str(descriptor.readlink())
            if stat.S_ISREG(descriptor.stat().st_mode) and not path.startswith(_NOT_THE_USERS):
                paths.add(path)
    return {path for path in paths if "/ray/session_" not in path and not path.endswith(" (deleted)")}


def _left_open(before: set[str]) -> list[str]:
    """Return a phrase for the files that were opened and are still in use; none without any."""
    found = _open_files() - before
    if not found:
        return []
    gc.collect()  # closes those that nobody uses
    paths = sorted(found & _open_files())  # another thread's were open for a moment only
    return [one_line(f"open files: {', '.join(paths[:3])}{', ...' if len(paths) > 3 else ''}")] if paths else []


def _logging() -> Restore:
    """Levels and handlers. A handler that is gone is closed, and with it its file."""
    disabled = logging.root.manager.disable
    before = {
        logger: (logger.level, list(logger.handlers), list(logger.filters), logger.propagate, logger.disabled)
        for logger in _all_loggers()
    }
    levels = {handler: handler.level for _, handlers, *_ in before.values() for handler in handlers}

    def restore() -> None:
        for logger in _all_loggers():
            kept = before.get(logger)
            for handler in set(logger.handlers) - levels.keys():
                if kept or not isinstance(handler, logging.NullHandler):  # which a library adds when it is imported
                    logger.removeHandler(handler)
                    handler.close()
            if kept:
                logger.setLevel(kept[0])
                logger.handlers[:], logger.filters[:], logger.propagate, logger.disabled = kept[1:]
        for handler, level in levels.items():
            handler.setLevel(level)
        logging.disable(disabled)

    return restore


def _all_loggers() -> list[logging.Logger]:
    named = list(logging.root.manager.loggerDict.values())
    return [logging.root, *(logger for logger in named if isinstance(logger, logging.Logger))]


def _random() -> Restore:
    """Generators of random numbers: restored always, since every trial uses them."""
    state = rng_state.capture()
    return lambda: rng_state.restore(state)
