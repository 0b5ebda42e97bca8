"""A run's logs from its storage, where its pods write them every 10 s and at their end."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Final

from trainer_app.errors import NotFoundError
from trainer_app.launch import rayjobs
from trainer_app.launch.kube import Kube
from trainer_app.launch.location import RunLocation
from trainer_app.launch.remote_run import RemoteRun
from trainer_app.storage import Entry

POLL_S: Final = 5.0
_PART: Final = re.compile(r"\.(\d{3,})\.log$")
Out = Callable[[str], None]


def show_logs(run_location: RunLocation, *, workers: bool, out: Out) -> None:
    """Send all stored lines to `out`, file by file under their names; a driver's only file has none.

    Args:
        workers: the logs of workers and trials, and not the driver's.

    Raises:
        NotFoundError: there is no log.
    """
    remote_run = RemoteRun.open(run_location.uri, run_location.run)
    files = list_files(remote_run, workers=workers)
    if not files:
        what = "worker" if workers else "driver"
        raise NotFoundError(
            f"run {run_location.run} has no {what} log in {run_location.uri}; see trainer status {run_location.run}"
        )
    for name, entries in files.items():
        if workers or len(files) > 1:
            out(f"==> {name} <==")
        # bytes are joined before they are decoded: an object may end within a character
        data = b"".join(remote_run.read_log(entry.key) for entry in entries)
        for line in data.decode(errors="replace").splitlines():
            out(line)


def list_files(remote_run: RemoteRun, *, workers: bool) -> dict[str, list[Entry]]:
    """Return the objects of each log file, in their order."""
    files: dict[str, list[tuple[int, Entry]]] = {}
    for entry in remote_run.list_logs("workers" if workers else "driver"):
        match = _PART.search(entry.key)
        name = entry.key[: match.start()] if match else entry.key.removesuffix(".log")
        files.setdefault(name, []).append((int(match[1]) if match else 0, entry))
    return {name: [entry for _, entry in sorted(parts, key=lambda part: part[0])] for name, parts in files.items()}


class LogTail:
    """A reader of a run's stored logs that shows only new lines; the lines of workers begin with the file's name.

    Of each object only the bytes behind those that were read are fetched. A line is shown once it is whole.
    """

    def __init__(self, run_location: RunLocation, show: Out, *, workers: bool) -> None:
        self.remote_run = RemoteRun.open(run_location.uri, run_location.run)
        self.show, self.workers = show, workers
        self.sizes: dict[str, int] = {}  # by object: how many of its bytes were read
        self.begun: dict[str, bytes] = {}  # by file: the line that is not whole yet
        self.last = -POLL_S

    def read(self) -> None:
        """Show new lines; the storage is asked every POLL_S at most."""
        if time.monotonic() - self.last >= POLL_S:
            self.last = time.monotonic()
            self._read()

    def read_rest(self) -> None:
        """Show what is left once the run has ended, also a line without an end."""
        self._read()
        for name, data in self.begun.items():
            self._show(name, data)
        self.begun.clear()

    def _read(self) -> None:
        for name, entries in list_files(self.remote_run, workers=self.workers).items():
            for entry in entries:
                start = self.sizes.get(entry.key, 0)
                if entry.size != start:
                    self._read_object(name, entry.key, start if start < entry.size else 0)  # less: it began anew

    def _read_object(self, name: str, key: str, start: int) -> None:
        data = self.remote_run.read_log(key, start=start)
        self.sizes[key] = start + len(data)
        whole, mark, rest = (self.begun.get(name, b"") + data).rpartition(b"\n")
        self.begun[name] = rest
        self._show(name, whole + mark)

    def _show(self, name: str, data: bytes) -> None:
        for line in data.decode(errors="replace").splitlines():
            self.show(f"{name}: {line}" if self.workers else line)


def follow_workers(kube: Kube, run_location: RunLocation, *, show: Out) -> None:
    """Show the workers' new lines until the run has ended.

    Args:
        show: called with each line, which begins with its file's name.
    """
    tail = LogTail(run_location, show, workers=True)
    while True:
        ended = rayjobs.has_ended(kube.get("RayJob", run_location.run))
        tail.read()
        if ended:
            tail.read_rest()
            return
        time.sleep(POLL_S)
