"""One run for each tick of a cron schedule: KubeRay 1.6 may create two RayJobs for the same time.

The RayJob that it creates wakes it again, often before its own record of the tick has come back to it; then it creates
another one (measured on kind: 18 of 40 ticks of one schedule, 2 of 120 of forty schedules that tick together;
raycronjob_controller.go, Reconcile). So the first driver notes in the storage when its RayJob was created, and one
whose RayJob was created within `dedup_window_s` of that leaves the tick to it, however much later it begins.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Final

from trainer_app.errors import AlreadyExistsError, StorageError
from trainer_app.run import documents, identity
from trainer_app.run.decision import KEY
from trainer_app.storage import Store

SCHEDULE: Final = "TRAINER_CRON_SCHEDULE"  # namespace/name of the RayCronJob, a space, and its schedule
CREATED: Final = "TRAINER_RAYJOB_CREATED"  # when the RayJob was created, from Kubernetes
CLUSTER_CA: Final = "TRAINER_CLUSTER_CA"  # tells this Kubernetes cluster from another with the same storage
FOLDER: Final = ".cron"
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
LONGEST: Final = 6 * HOUR
TRIES: Final = 50
PAUSE_S: Final = 0.2
KEPT: Final = 10  # notes: a driver may begin after those of later ticks
_NOTE: Final = re.compile(r"\d{8}\.json")
_MINUTES: Final = re.compile(r"\d{8}")
UNITS: Final = {"h": HOUR, "m": MINUTE, "s": 1.0}


def owner_of_tick(storage: Store, run: str, env: Mapping[str, str] | None = None) -> str | None:
    """Return the other run that has this tick; None if it is this run's, or if no schedule started this run.

    If it is this run's, that is noted in `.cron/<id>/<number>.json`. A run that has begun keeps its tick.

    Args:
        env: the environment, which names the schedule; None: this process's.

    Raises:
        StorageError: the storage did not answer.
    """
    env = os.environ if env is None else env
    cron = env.get(SCHEDULE)
    if not cron or storage.exists(f"{run}/{KEY}"):
        return None
    known_by = f"{cron}\n{env.get(CLUSTER_CA, '')}".encode()
    store = storage.child(f"{FOLDER}/{hashlib.sha256(known_by).hexdigest()[:32]}")
    window, created = dedup_window_s(cron.partition(" ")[2]), creation_time(run, env)
    for _ in range(TRIES):
        notes = sorted(entry.key for entry in store.list() if _NOTE.fullmatch(entry.key))
        known = [note for key in notes[-KEPT:] if (note := documents.read(store, key))]
        if any(note.get("run") == run for note in known):
            return None
        for note in known:
            if abs(created - float(note.get("began") or 0.0)) < window:
                return str(note.get("run"))
        number = int(notes[-1].partition(".")[0]) + 1 if notes else 1
        try:
            documents.write(store, f"{number:08d}.json", {"run": run, "began": round(created, 3)}, create=True)
        except AlreadyExistsError:  # the other one was faster
            time.sleep(PAUSE_S)
            continue
        for old in notes[: 1 - KEPT]:
            with suppress(StorageError):  # a bucket's policy may allow no deletion
                store.delete(old)
        return None
    raise StorageError(f"{store.uri}: {TRIES} notes of the schedule were taken by others; try again")


def dedup_window_s(schedule: str) -> float:
    """Return the seconds within which two RayJobs of a schedule were created for the same tick.

    Half the shortest time between two ticks, and at most 6 h. A schedule is as robfig/cron reads it: five fields,
    @daily and the like, or @every 1h30m; with TZ=NAME or not.
    """
    first, *more = [word for word in schedule.split() if not word.startswith(("TZ=", "CRON_TZ="))]
    if first == "@every":
        span = sum(float(count) * UNITS[unit] for count, unit in re.findall(r"([\d.]+)([hms])(?!s)", more[0]))
    elif first.startswith("@"):
        span = HOUR if first == "@hourly" else DAY  # every other word of cron's is a day or more
    else:
        hours, minutes = _values(more[0], 24), _values(first, 60)
        times = sorted(hour * HOUR + minute * MINUTE for hour in hours for minute in minutes)
        span = min(later - earlier for earlier, later in pairwise([*times, times[0] + DAY]))
    return min(span / 2, LONGEST)


def _values(field: str, count: int) -> set[int]:
    """Return the values of a field of a schedule, such as 5,10-20/2; all below `count` for *."""
    values: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        begin = 0 if first in ("*", "?") else int(first)
        end = int(last) if last else begin if first.isdigit() and not step else count - 1
        values.update(range(begin, end + 1, int(step or 1)))
    return values


def creation_time(run: str, env: Mapping[str, str]) -> float:
    """Return when the RayJob of a run was created, in Unix seconds, as far as that is known.

    KubeRay 1.7 has the minute in the RayJob's name; with 1.6 the submitter asks Kubernetes. Without access to its API
    a pod can't learn it: no field of the downward API, no name and no label of KubeRay's has a time. Then it is when
    this container, the head's, began: before the workers' nodes were there, but not before the head's own.
    """
    cron = env.get(SCHEDULE, "").partition(" ")[0].rpartition("/")[2]
    if run.startswith(f"{cron}-") and _MINUTES.fullmatch(minutes := run.removeprefix(f"{cron}-")):
        return int(minutes) * MINUTE
    created = env.get(CREATED, "")
    return datetime.fromisoformat(created).timestamp() if created else container_start()


def container_start() -> float:
    """Return when the first process of this container began, in Unix seconds; now if the system doesn't say."""
    try:
        booted = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime "))
        return float(booted.split()[1]) + identity.start_ticks(1) / os.sysconf("SC_CLK_TCK")
    except (OSError, StopIteration, ValueError):
        return time.time()
