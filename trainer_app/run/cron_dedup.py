"""One run for each tick of a cron schedule: KubeRay 1.6 may create two RayJobs for the same time.

The RayJob that it creates wakes it again, often before its own record of the tick has come back to it; then it creates
another one (measured on kind: 18 of 40 ticks of one schedule, 2 of 120 of forty schedules that tick together;
raycronjob_controller.go, Reconcile). Nothing but random names distinguishes the pods of the two, and neither knows the
time that it was created for. So the first driver notes its start in the storage, and one that begins within
`dedup_window_s` after it leaves the tick to it.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from trainer_app.errors import AlreadyExistsError, StorageError
from trainer_app.run import documents
from trainer_app.run.decision import KEY
from trainer_app.storage import Store

SCHEDULE: Final = "TRAINER_CRON_SCHEDULE"  # namespace/name of the RayCronJob, a space, and its schedule
CLUSTER_CA: Final = "TRAINER_CLUSTER_CA"  # tells this Kubernetes cluster from another with the same storage
FOLDER: Final = ".cron"
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
LONGEST: Final = 6 * HOUR
TRIES: Final = 50
PAUSE_S: Final = 0.2
_NOTE: Final = re.compile(r"\d{8}\.json")
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
    identity = f"{cron}\n{env.get(CLUSTER_CA, '')}".encode()
    store = storage.child(f"{FOLDER}/{hashlib.sha256(identity).hexdigest()[:32]}")
    schedule = cron.partition(" ")[2]
    for _ in range(TRIES):
        notes = sorted(entry.key for entry in store.list() if _NOTE.fullmatch(entry.key))
        last = documents.read(store, notes[-1]) if notes else None
        if last and last.get("run") == run:
            return None
        if last and abs(time.time() - float(last.get("began") or 0.0)) < dedup_window_s(schedule):
            return str(last.get("run"))
        number = int(notes[-1].partition(".")[0]) + 1 if notes else 1
        try:
            documents.write(store, f"{number:08d}.json", {"run": run, "began": round(time.time(), 3)}, create=True)
        except AlreadyExistsError:  # the other one was faster
            time.sleep(PAUSE_S)
            continue
        for old in notes[:-1]:
            with suppress(StorageError):  # a bucket's policy may allow no deletion
                store.delete(old)
        return None
    raise StorageError(f"{store.uri}: {TRIES} notes of the schedule were taken by others; try again")


def dedup_window_s(schedule: str) -> float:
    """Return the seconds within which two drivers of a schedule belong to the same tick.

    Half the shortest time between two ticks, and at most 6 h: drivers begin a while after their tick, one sooner than
    the other. A schedule is as robfig/cron reads it: five fields, @daily and the like, or @every 1h30m; with TZ=NAME
    or not.
    """
    first, *more = [word for word in schedule.split() if not word.startswith(("TZ=", "CRON_TZ="))]
    if first == "@every":
        span = sum(float(count) * UNITS[unit] for count, unit in re.findall(r"([\d.]+)([hms])(?!s)", more[0]))
    elif first.startswith("@"):
        span = HOUR if first == "@hourly" else DAY  # every other word of cron's is a day or more
    elif first.isdigit():  # one minute of an hour, of one hour or of several
        span = DAY if more[0].isdigit() else HOUR
    else:
        span = MINUTE
    return min(span / 2, LONGEST)
