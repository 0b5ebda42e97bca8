"""One run for each tick of a cron schedule: KubeRay 1.6 may create two RayJobs for the same time.

The RayJob that it creates wakes it again, often before its own record of the tick has come back to it; then it creates
another one (measured on kind: 18 of 40 ticks of one schedule, 2 of 120 of forty schedules that tick together;
raycronjob_controller.go, Reconcile). So the first driver notes in the storage when its RayJob was created, and one
whose RayJob was created within `dedup_window_s` of that leaves the tick to it, however much later it begins; unless the
schedule has a tick between the two: an operator that was away creates a RayJob late, shortly before the next one's.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

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
LATEST: Final = 1e11  # Unix seconds
TRIES: Final = 50
PAUSE_S: Final = 0.2
EARLY_S: Final = 10.0  # by another clock a RayJob may be created before its tick
KEPT: Final = 10  # notes: a driver may begin after those of later ticks
_NOTE: Final = re.compile(r"\d{8,12}\.json")
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
    schedule, created = cron.partition(" ")[2], creation_time(run, env)
    began = container_start() if created is None else created
    own = {"run": run, "began": round(began, 3), "known": created is not None}
    for _ in range(TRIES):
        notes = sorted((entry.key for entry in store.list() if _NOTE.fullmatch(entry.key)), key=_number)
        known = [note for key in notes[-KEPT:] if (note := documents.read(store, key))]
        if any(note.get("run") == run for note in known):
            return None
        for note in known:
            if _same_tick(schedule, own, note):
                return str(note.get("run"))
        number = _number(notes[-1]) + 1 if notes else 1
        try:
            documents.write(store, f"{number:08d}.json", own, create=True)
        except AlreadyExistsError:  # the other one was faster
            time.sleep(PAUSE_S)
            continue
        for old in notes[: 1 - KEPT]:
            with suppress(StorageError):  # a bucket's policy may allow no deletion
                store.delete(old)
        return None
    raise StorageError(f"{store.uri}: {TRIES} notes of the schedule were taken by others; try again")


def _number(key: str) -> int:
    return int(key.partition(".")[0])


def _same_tick(schedule: str, own: Mapping[str, Any], note: Mapping[str, Any]) -> bool:
    """Return whether two RayJobs were created for one tick; a note that can't have been written here is of none."""
    times: list[Any] = [one.get("began") for one in (own, note)]
    if not all(isinstance(one, int | float) and 0 <= one <= LATEST for one in times):
        return False
    if abs(times[0] - times[1]) >= dedup_window_s(schedule):
        return False
    return not (own.get("known") and note.get("known")) or _tick(schedule, times[0]) == _tick(schedule, times[1])


def _tick(schedule: str, created: float) -> tuple[int, float]:
    """Return the day and second of a schedule's last tick before a RayJob was created; of @every nothing is known."""
    zones = [word.partition("=")[2] for word in schedule.split() if word.startswith(("TZ=", "CRON_TZ="))]
    times = _times(schedule)
    if not times:
        return 0, 0.0
    zone: Any = UTC
    with suppress(OSError, ValueError, KeyError):  # a zone that this image does not know
        zone = ZoneInfo(zones[0]) if zones else UTC
    now = datetime.fromtimestamp(created + EARLY_S, zone)
    past = [second for second in times if second <= now.hour * HOUR + now.minute * MINUTE + now.second]
    return (now.toordinal(), past[-1]) if past else (now.toordinal() - 1, times[-1])


def dedup_window_s(schedule: str) -> float:
    """Return the seconds within which two RayJobs of a schedule were created for the same tick.

    Half the shortest time between two ticks, and at most 6 h. A schedule is as robfig/cron reads it: five fields,
    @daily and the like, or @every 1h30m; with TZ=NAME or not.
    """
    if times := _times(schedule):
        span = min(later - earlier for earlier, later in pairwise([*times, times[0] + DAY]))
    else:
        words = re.findall(r"([\d.]+)([hms])(?!s)", schedule.partition("@every")[2])
        span = sum(float(count) * UNITS[unit] for count, unit in words)
    return min(span / 2, LONGEST)


def _times(schedule: str) -> list[float]:
    """Return the seconds of a day at which a schedule ticks, on days when it does; none of @every."""
    first, *more = [word for word in schedule.split() if not word.startswith(("TZ=", "CRON_TZ="))]
    if first == "@every":
        return []
    if first.startswith("@"):  # every other word of cron's is a day or more
        first, more = "0", ["*" if first == "@hourly" else "0"]
    hours, minutes = _values(more[0], 24), _values(first, 60)
    return sorted(hour * HOUR + minute * MINUTE for hour in hours for minute in minutes)


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


def creation_time(run: str, env: Mapping[str, str]) -> float | None:
    """Return when the RayJob of a run was created, in Unix seconds; None if that is not known.

    KubeRay 1.7 has the minute in the RayJob's name; with 1.6 the submitter asks Kubernetes. Without access to its API
    a pod can't learn it: no field of the downward API, no name and no label of KubeRay's has a time.
    """
    cron = env.get(SCHEDULE, "").partition(" ")[0].rpartition("/")[2]
    if run.startswith(f"{cron}-") and _MINUTES.fullmatch(minutes := run.removeprefix(f"{cron}-")):
        return int(minutes) * MINUTE
    created = env.get(CREATED, "")
    return datetime.fromisoformat(created).timestamp() if created else None


def container_start() -> float:
    """Return when the first process of this container began, in Unix seconds; now if the system doesn't say.

    The head's began before the workers' nodes were there, but not before its own.
    """
    try:
        booted = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime "))
        return float(booted.split()[1]) + identity.start_ticks(1) / os.sysconf("SC_CLK_TCK")
    except (OSError, StopIteration, ValueError):
        return time.time()
