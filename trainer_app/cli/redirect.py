"""Keep the screen for us: what Lightning, Ray, their child processes and `warnings` print goes to a log file.

Redirected are the file descriptors 1 and 2 themselves, for C++ code and child processes never ask `sys.stdout`.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from trainer_app.errors import InputError
from trainer_app.machine import make_private_folder
from trainer_app.storage import open_store


@dataclass(frozen=True)
class OriginalStreams:
    """The output and error streams that the command was started with. No child process inherits them."""

    out: TextIO
    err: TextIO


def log_path(option: str | None, run: str, storage: str) -> Path | None:
    """Return the file for what the run prints; None for stderr.

    Args:
        option: of `--log`: a path, `-` for stderr, or None for a file of the run in the temporary folder.
        storage: the URI of the storage, from which that file's name is made.
    """
    return None if option == "-" else Path(option).absolute() if option else default_log(run, storage)


def default_log(run: str, storage: str) -> Path:
    """Return `<tmp>/trainer-<uid>/<run>-<hash of the storage>.log`: runs of one name in two storages have two logs.

    It is not in the run's folder, which must not exist before the run is created, and may be on S3.
    The folder is the user's own with mode 0700, since logs may show what a program prints of its data.
    """
    folder = Path(tempfile.gettempdir()) / f"trainer-{os.getuid()}"
    if not make_private_folder(folder):
        folder = Path(tempfile.mkdtemp(prefix=f"trainer-{os.getuid()}-"))
    digest = hashlib.sha256(open_store(storage).uri.encode()).hexdigest()[:8]
    return folder / f"{run}-{digest}.log"


@contextmanager
def to_log(path: Path | None) -> Iterator[OriginalStreams]:
    """Append everything that is printed to a log, and yield the original streams.

    Args:
        path: the log; None leaves stderr as it is and sends other output on stdout there too.

    Raises:
        InputError: the log can't be written.
    """
    log = _open_log(path) if path else os.dup(2)
    _flush()
    saved, streams = (_dup(1), _dup(2)), (sys.stdout, sys.stderr)
    original = OriginalStreams(_stream(os.dup(saved[0])), _stream(os.dup(saved[1])))
    try:
        for fd in (1, 2):
            os.dup2(log, fd)
        sys.stdout, sys.stderr = _stream(1, closefd=False), _stream(2, closefd=False)
        with _logging_to(sys.stderr):
            yield original
    finally:
        _flush()
        sys.stdout, sys.stderr = streams
        for fd, copy in zip((1, 2), saved, strict=True):
            os.dup2(copy, fd)
            os.close(copy)
        os.close(log)
        for stream in (original.out, original.err):
            _ignore_closed(stream.close)


def _open_log(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    except OSError as e:
        raise InputError(f"--log {path}: can't be written: {e.strerror}; name a file that can, or - for stderr") from e


def _dup(fd: int) -> int:
    """A copy that children don't inherit: a pipe's reader must see its end when we end, not when Ray's daemons do."""
    try:
        return os.dup(fd)
    except OSError:  # started with this descriptor closed
        return os.open(os.devnull, os.O_WRONLY)


def _stream(fd: int, *, closefd: bool = True) -> TextIO:
    raw = io.BufferedWriter(io.FileIO(fd, "w", closefd=closefd))
    return io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", line_buffering=True)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        if stream is not None and not stream.closed:
            _ignore_closed(stream.flush)


def _ignore_closed(write: Callable[[], object]) -> None:
    """Ignore that the reader or the terminal is gone: the run's result is in its storage."""
    try:
        write()
    except OSError as e:
        logging.getLogger(__name__).debug("output is closed: %s", e)


@contextmanager
def _logging_to(stream: TextIO) -> Iterator[None]:
    root, handler = logging.getLogger(), logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root.addHandler(handler)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.removeHandler(handler)
