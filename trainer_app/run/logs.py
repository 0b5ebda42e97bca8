"""Logs are sent to storage: every 10 s while they grow, and at the end."""

from __future__ import annotations

import atexit
import logging
import os
import re
import socket
import stat
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

from trainer_app.errors import StorageError
from trainer_app.run.guard import Guard
from trainer_app.run.identity import current_submission
from trainer_app.storage import Store, try_once

EVERY_S: Final = 10.0
PART: Final = 8 << 20

_log = logging.getLogger(__name__)
_kept: dict[str, Uploader] = {}


class GrowingFile:
    """A file that grows, in parts of at most 8 MiB: `<key>.000.log`, `<key>.001.log`, ... Only changed parts are sent.

    The first `since` bytes are an earlier attempt's.
    """

    def __init__(self, path: Path, key: str, *, since: int = 0) -> None:
        self.path, self.key, self.since = path, key, since
        self.sent = 0

    def send(self, store: Store) -> None:
        """Send what is new; what was not sent is sent the next time.

        Raises:
            StorageError: the storage did not answer.
        """
        try:
            with self.path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size - self.since
                if size < self.sent:  # begun anew
                    self.since = self.sent = 0
                    size = os.fstat(file.fileno()).st_size
                while self.sent < size:
                    number = self.sent // PART
                    file.seek(self.since + number * PART)
                    data = file.read(PART)
                    if number * PART + len(data) <= self.sent:
                        return  # it was cut meanwhile: the next call begins anew
                    store.put(f"{self.key}.{number:03d}.log", data)
                    self.sent = number * PART + len(data)
        except FileNotFoundError:
            return


class Uploader:
    """Sends files in a thread of its own, and once more at the end."""

    def __init__(self, store: Store, files: Iterable[GrowingFile]) -> None:
        self.store, self.files = try_once(store), list(files)
        self._lock = threading.Lock()
        self._guard = Guard("logs are sent to storage", self._send, every_s=lambda: EVERY_S)

    def __enter__(self) -> Self:
        self._guard.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop sending, after the last part."""
        self._guard.stop()
        self.send()

    def send(self) -> None:
        """Send what has grown; what keeps it from that is logged."""
        self._guard.work()

    def _send(self) -> None:
        """Send each file, also if another was not sent. Raises StorageError of the last that was not."""
        problem = None
        with self._lock:
            for file in self.files:
                try:
                    file.send(self.store)
                except StorageError as error:
                    problem = error
        if problem:
            raise problem


def number_of_log(store: Store, attempt: int) -> int:
    """Return the attempt's number, or a later one if that has a log: of a start that was cut before it was recorded.

    Raises:
        StorageError: the storage did not answer.
    """
    numbers = (re.match(r"a(\d+)[-.]", entry.key) for entry in store.list("logs/driver"))
    return max([attempt, *(int(number[1]) + 1 for number in numbers if number)])


def driver_uploader(store: Store, attempt: int, log: Path | None) -> Uploader:
    """Return an uploader of the command's own output.

    Args:
        attempt: the number in the names of the objects: see `number_of_log`.
        log: the command's log file; None: the files that its stdout and stderr go to, as Ray's job log is one.
    """
    key = f"logs/driver/a{attempt:04d}"
    if log is not None:
        return Uploader(store, [GrowingFile(log, key, since=log.stat().st_size if log.exists() else 0)])
    paths = enumerate(output_files())
    return Uploader(store, [GrowingFile(path, f"{key}-{number}" if number else key) for number, path in paths])


def upload_output(store: Store) -> None:
    """Send this Ray worker's output to the run's storage from now on, if the run was submitted."""
    if current_submission() is None or store.uri in _kept:
        return
    folder = f"logs/worker-{_plain(socket.gethostname())}"
    kept = Uploader(store, [GrowingFile(path, f"{folder}/{_plain(path.name)}") for path in output_files()])
    _kept[store.uri] = kept.__enter__()
    atexit.register(kept.close)


@contextmanager
def send_at_end() -> Iterator[None]:
    """Send what this process has printed, if it is kept: Ray may end the process without notice."""
    try:
        yield
    finally:
        for kept in _kept.values():
            kept.send()


def output_files() -> list[Path]:
    """Return the files that this process's stdout and stderr go to, each once; pipes and terminals are not files."""
    paths = []
    for descriptor in (1, 2):
        try:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                paths.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        except OSError as error:  # closed, or a system without /proc
            _log.debug("the output of descriptor %d is not a file: %s", descriptor, error)
    return list(dict.fromkeys(paths))


def _plain(name: str) -> str:
    return re.sub(r"[^\w.-]", "-", name)[:180]
