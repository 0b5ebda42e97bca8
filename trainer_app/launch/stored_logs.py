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
    files = read_logs(run_location, workers=workers)
    if not files:
        what = "worker" if workers else "driver"
        raise NotFoundError(
            f"run {run_location.run} has no {what} log in {run_location.uri}; see trainer status {run_location.run}"
        )
    for name, text in files.items():
        if workers or len(files) > 1:
            out(f"==> {name} <==")
        for line in text.splitlines():
            out(line)


def read_logs(run_location: RunLocation, *, workers: bool) -> dict[str, str]:
    """Return the text of each log file, its parts joined."""
    parts: dict[str, list[tuple[int, bytes]]] = {}
    for key, data in RemoteRun.open(run_location.uri, run_location.run).read_logs("workers" if workers else "driver"):
        match = _PART.search(key)
        name = key[: match.start()] if match else key.removesuffix(".log")
        parts.setdefault(name, []).append((int(match[1]) if match else 0, data))
    # bytes are joined before they are decoded: a part may end within a character
    return {name: b"".join(d for _, d in sorted(pieces)).decode(errors="replace") for name, pieces in parts.items()}


class LogTail:
    """A reader of a run's stored logs that shows only new lines; the lines of workers begin with the file's name."""

    def __init__(self, run_location: RunLocation, show: Out, *, workers: bool) -> None:
        self.where, self.show, self.workers = run_location, show, workers
        self.seen: dict[str, int] = {}
        self.last = -POLL_S

    def read(self) -> None:
        """Show new lines; the storage is read every POLL_S at most."""
        if time.monotonic() - self.last < POLL_S:
            return
        self.last = time.monotonic()
        for name, text in read_logs(self.where, workers=self.workers).items():
            lines = text.splitlines()
            for line in lines[self.seen.get(name, 0) :]:
                self.show(f"{name}: {line}" if self.workers else line)
            self.seen[name] = len(lines)


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
            return
        time.sleep(POLL_S)
