"""What a project writes, sent to `artifacts/` of the run's folder: every 10 s while it changes, and at the end."""

from __future__ import annotations

import logging
import os
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final, Self

from trainer_app.errors import AlreadyExistsError, LeaseLostError, ObjectChangedError, StorageError
from trainer_app.formatting import format_bytes
from trainer_app.run.guard import Guard
from trainer_app.run.working_folder import IGNORED
from trainer_app.secret_files import is_secret_name
from trainer_app.storage import Store, try_once
from trainer_app.storage_uri import find_key_problem

NOT_SENT: Final = "not-sent.txt"  # among the artifacts: what was left out, and why
EVERY_S: Final = 10.0
MAX_LOOKED_AT: Final = 50_000  # files and folders
MAX_RESTORED: Final = 16 << 20  # bytes of a file that the next attempt gets back
CODE: Final = (".py", ".pyc", ".so")  # not given back: a storage does not decide what is imported
CHECKPOINT: Final = ".ckpt"
TRIES: Final = 5

_log = logging.getLogger(__name__)
Find = Callable[[], Mapping[str, Path]]


@dataclass(frozen=True)
class Limits:
    """How much of one fit is sent: so many files, and bytes of them together. The smallest files come first."""

    files: int
    size: int


def find_changed(folder: Path, roots: Iterable[Path], since: float, *, leave_out: str = "") -> dict[str, Path]:
    """Return {path relative to `folder`: file} of the files that were written after `since`.

    Links count if they lead to a file in the folder.

    Args:
        roots: files and folders in it that are looked at.
        since: Unix seconds.
        leave_out: a folder that is not looked at: the storage.
    """
    changed: dict[str, Path] = {}
    waiting = list(roots)
    for path in islice(waiting, MAX_LOOKED_AT):
        with suppress(OSError):
            info = path.lstat()
            if stat.S_ISDIR(info.st_mode):
                if path.name not in IGNORED and str(path) != leave_out and not (path / "pyvenv.cfg").exists():
                    waiting += sorted(path.iterdir())
            elif info.st_ctime >= since and (file := _regular_file(path, info, folder)):
                changed[path.relative_to(folder).as_posix()] = file
    return changed


def _regular_file(path: Path, info: os.stat_result, folder: Path) -> Path | None:
    """Return the file, or the one in the folder that a link leads to."""
    if stat.S_ISLNK(info.st_mode):
        path = path.resolve()
        return path if path.is_file() and path.is_relative_to(folder.resolve()) else None
    return path if stat.S_ISREG(info.st_mode) else None


def restore(store: Store, folder: Path, *, skip: tuple[str, ...] = ()) -> None:
    """Put what an earlier attempt has sent into a new working folder; large files are left out.

    Args:
        store: of the fit's artifacts.
        skip: prefixes of keys that are not this fit's.
    """
    for entry in store.list():
        is_code = entry.key.endswith(CODE)
        if entry.size <= MAX_RESTORED and not is_code and not entry.key.startswith((NOT_SENT, *skip)):
            target = folder / entry.key
            if not find_key_problem(entry.key) and target.resolve().is_relative_to(folder.resolve()):
                store.get_file(entry.key, target)


@dataclass
class Sender:
    """Sends files in a thread of its own, and once more at the end.

    Args:
        store: of the fit's artifacts.
        find: returns {key: file}, what there is to be sent now.
        limits: how much is sent.
        same_state: returns the name of the commit that has all of a checkpoint's tensors: it is not sent then.
    """

    store: Store
    find: Find
    limits: Limits
    same_state: Callable[[Path], str | None] = lambda path: None
    _sent: dict[str, tuple[int, int]] = field(default_factory=dict)
    _left_out: dict[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)  # one sends at a time

    def __enter__(self) -> Self:
        self._pause = EVERY_S
        self._guard = Guard("artifacts are sent to storage", self._work, every_s=lambda: self._pause, slow=True)
        self._guard.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._guard.stop(wait_s=threading.TIMEOUT_MAX)
        self.send(last=True, patient=True)

    def _work(self) -> None:
        started = time.monotonic()
        try:
            self.send()
        finally:
            self._pause = max(EVERY_S, 10 * (time.monotonic() - started))  # a tenth of the time at most

    def send(self, *, last: bool = False, patient: bool = False) -> None:
        """Send what has changed, and delete what was sent and is gone; a storage that does not answer is logged.

        Args:
            last: it is the end: new checkpoints do not wait for the commit that may have the same state.
            patient: wait for a storage that does not answer.
        """
        try:
            with self._lock:
                self._send(self.store if patient else try_once(self.store), last=last)
        except (StorageError, LeaseLostError, OSError) as error:
            _log.warning("artifacts were not sent to %s: %s", self.store.uri, error)

    def _send(self, store: Store, *, last: bool) -> None:
        wanted = self._choose(self.find(), last=last)
        if last and self._sent:  # a former driver's write or deletion may have come since
            there = {entry.key: entry.size for entry in store.list()}
            self._sent = {key: state for key, state in self._sent.items() if there.get(key) == state[0]}
        for key in [key for key in self._sent if key not in wanted]:
            store.delete(key)
            del self._sent[key]
        for key, path in wanted.items():
            self._send_file(store, key, path)
        if last and self._left_out:
            lines = "".join(f"{key}: {reason}\n" for key, reason in sorted(self._left_out.items()))
            store.put(NOT_SENT, lines.encode())

    def _choose(self, files: Mapping[str, Path], *, last: bool) -> dict[str, Path]:
        """Return the files to send; why the others are left out is noted, and the limits are said once."""
        left_out: dict[str, str] = {}
        wanted: dict[str, Path] = {}
        total = 0
        for size, key, path in sorted(_sizes(files)):
            if reason := self._reason_against(key, path, last=last):
                left_out[key] = reason
            elif len(wanted) >= self.limits.files or total + size > self.limits.size:
                left_out[key] = f"{format_bytes(size)}, beyond the limit of {self._limit_text()}"
            else:
                wanted[key] = path
                total += size
        beyond = [key for key, reason in left_out.items() if "beyond the limit" in reason]
        if beyond and not any("beyond the limit" in reason for reason in self._left_out.values()):
            text = f"artifacts: the limit of {self._limit_text()} is reached; {beyond[0]} and larger files are not sent"
            print(f"{text} (storage.artifact_files, storage.artifact_gib)", file=sys.stderr, flush=True)
        self._left_out = left_out
        return wanted

    def _limit_text(self) -> str:
        return f"{self.limits.files} files, {format_bytes(self.limits.size)}"

    def _reason_against(self, key: str, path: Path, *, last: bool) -> str:
        if problem := find_key_problem(key):
            return f"its name can't be used: {problem}"
        if is_secret_name(key):
            return "files of this name hold secrets, which every run of the storage could read"
        if not key.endswith(CHECKPOINT):
            return ""
        if not last and time.time() - path.stat().st_mtime < EVERY_S:
            return "not yet sent"
        commit = self.same_state(path)
        return f"its state is in checkpoints/{commit}" if commit else ""

    def _send_file(self, store: Store, key: str, path: Path) -> None:
        try:
            info = path.stat()
            state = (info.st_size, info.st_mtime_ns)
            if self._sent.get(key) != state:
                put_in_place(store, key, path) if info.st_size <= MAX_RESTORED else store.put_file(key, path)
                self._sent[key] = state
        except (StorageError, FileNotFoundError):
            if path.exists():
                raise


def put_in_place(store: Store, key: str, path: Path) -> None:
    """Write a small file in place of what is there now: a former driver's write that comes late is refused."""
    for left in reversed(range(TRIES)):
        tag = store.tag(key)
        try:
            store.put(key, path.read_bytes(), create=tag is None, if_match=tag)
            return
        except (AlreadyExistsError, ObjectChangedError):
            if not left:
                raise


def _sizes(files: Mapping[str, Path]) -> Iterator[tuple[int, str, Path]]:
    for key, path in files.items():
        with suppress(OSError):  # removed since
            yield path.stat().st_size, key, path
