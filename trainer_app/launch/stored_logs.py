"""A run's logs from its storage, where the pods put them every 10 s and at their end."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Final

from trainer_app.errors import NotFound
from trainer_app.launch import rayjob
from trainer_app.launch.kube import Kube
from trainer_app.launch.place import Place
from trainer_app.launch.stored import Stored

POLL_S: Final = 5.0
_PART: Final = re.compile(r"\.(\d{3,})\.log$")
Out = Callable[[str], None]


def show(where: Place, *, workers: bool, out: Out) -> None:
    """All that is there, the driver's attempts or the workers' files in order, each under its name.

    Raises:
        NotFound: nothing is there.
    """
    files = read(where, workers=workers)
    if not files:
        what = "the workers" if workers else "the driver"
        raise NotFound(f"there is no log of {what} of run {where.run} in {where.uri}; see trainer status {where.run}")
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


def follow_workers(kube: Kube, where: Place, *, show: Out) -> None:
    """What is new in the workers' files, each line after its file's name, until the run has ended."""
    seen: dict[str, int] = {}
    while True:
        ended = rayjob.ended(kube.get("RayJob", where.run))
        for name, text in read(where, workers=True).items():
            lines = text.splitlines()
            for line in lines[seen.get(name, 0) :]:
                show(f"{name}: {line}")
            seen[name] = len(lines)
        if ended:
            return
        time.sleep(POLL_S)
