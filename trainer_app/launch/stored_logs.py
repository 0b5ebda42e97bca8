"""A run's logs from its storage, where the pods put them every 10 s and at their end."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Final

from trainer_app.errors import NotFoundError
from trainer_app.launch import rayjob
from trainer_app.launch.kube import Kube
from trainer_app.launch.location import Place
from trainer_app.launch.remote_run import Stored

POLL_S: Final = 5.0
_PART: Final = re.compile(r"\.(\d{3,})\.log$")
Out = Callable[[str], None]


def show(where: Place, *, workers: bool, out: Out) -> None:
    """All that is there, the driver's attempts or the workers' files in order, each under its name.

    Raises:
        NotFoundError: nothing is there.
    """
    files = read(where, workers=workers)
    if not files:
        what = "the workers" if workers else "the driver"
        raise NotFoundError(
            f"there is no log of {what} of run {where.run} in {where.uri}; see trainer status {where.run}"
        )
    for name, text in files.items():
        if workers or len(files) > 1:
            out(f"==> {name} <==")
        for line in text.splitlines():
            out(line)


def read(where: Place, *, workers: bool) -> dict[str, str]:
    """Text by file, its parts joined."""
    parts: dict[str, list[tuple[int, bytes]]] = {}
    for key, data in Stored.open(where.uri, where.run).logs("workers" if workers else "driver"):
        match = _PART.search(key)
        name = key[: match.start()] if match else key.removesuffix(".log")
        parts.setdefault(name, []).append((int(match[1]) if match else 0, data))
    # bytes are joined before they are decoded: a part may end within a character
    return {name: b"".join(d for _, d in sorted(found)).decode(errors="replace") for name, found in parts.items()}


class Tail:
    """What is new in a run's stored logs at each `read`: of the driver as it is, of workers after the file's name."""

    def __init__(self, where: Place, show: Out, *, workers: bool) -> None:
        self.where, self.show, self.workers = where, show, workers
        self.seen: dict[str, int] = {}
        self.last = -POLL_S

    def read(self) -> None:
        """Asks the storage every POLL_S at most, and sends nothing that was shown before."""
        if time.monotonic() - self.last < POLL_S:
            return
        self.last = time.monotonic()
        for name, text in read(self.where, workers=self.workers).items():
            lines = text.splitlines()
            for line in lines[self.seen.get(name, 0) :]:
                self.show(f"{name}: {line}" if self.workers else line)
            self.seen[name] = len(lines)


def follow_workers(kube: Kube, where: Place, *, show: Out) -> None:
    """Until the run has ended."""
    tail = Tail(where, show, workers=True)
    while True:
        ended = rayjob.ended(kube.get("RayJob", where.run))
        tail.read()
        if ended:
            return
        time.sleep(POLL_S)
