"""One run a firing of a timetable: KubeRay 1.6 may create two RayJobs for the same time.

The RayJob that it creates wakes it again, often before its own note of the firing has come back to it; then it fires
once more (measured on kind: 18 of 40 firings of one timetable alone, 2 of 120 of forty timetables that fire together;
raycronjob_controller.go, Reconcile). The pods of the two are told nothing that tells them apart but random names, and
not the time that they were fired for. So the first driver notes its start in the storage, and one that begins sooner
after it than the timetable fires again leaves the firing to it.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Mapping
from typing import Final

from trainer_app.errors import AlreadyExistsError
from trainer_app.run import documents
from trainer_app.run.decision import KEY
from trainer_app.storage import Store

TIMETABLE: Final = "TRAINER_TIMETABLE"  # namespace/name of the RayCronJob, a space, and its schedule
CLUSTER_CA: Final = "TRAINER_CLUSTER_CA"  # tells this Kubernetes cluster from another with the same storage
FOLDER: Final = ".timetables"
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
LONGEST: Final = 6 * HOUR
UNITS: Final = {"h": HOUR, "m": MINUTE, "s": 1.0}


def taken(storage: Store, run: str, env: Mapping[str, str] | None = None) -> str | None:
    """The run that has this firing; None where it is this one's, which is noted then, or where none was fired.

    A run that has begun goes on, whenever that is. What its driver notes is kept: `.timetables/<id>/<number>.json`.

    Raises:
        StorageError: the storage did not answer.
    """
    env = os.environ if env is None else env
    timetable = env.get(TIMETABLE)
    if not timetable or storage.exists(f"{run}/{KEY}"):
        return None
    identity = f"{timetable}\n{env.get(CLUSTER_CA, '')}".encode()
    store = storage.child(f"{FOLDER}/{hashlib.sha256(identity).hexdigest()[:32]}")
    schedule = timetable.partition(" ")[2]
    while True:
        notes = sorted(entry.key for entry in store.list())
        last = documents.read(store, notes[-1]) if notes else None
        if last and last.get("run") == run:
            return None
        if last and abs(time.time() - float(last.get("began") or 0.0)) < apart(schedule):
            return str(last.get("run"))
        number = int(notes[-1].partition(".")[0]) + 1 if notes else 1
        try:
            documents.write(store, f"{number:08d}.json", {"run": run, "began": round(time.time(), 3)}, create=True)
        except AlreadyExistsError:  # the other one was faster
            continue
        for old in notes[:-1]:
            store.delete(old)
        return None


def apart(schedule: str) -> float:
    """Seconds within which two drivers of a timetable have been fired for the same time: half the least time between
    two firings, and at most 6 h. Drivers begin a while after their time, one sooner than the other.

    Args:
        schedule: as robfig/cron reads it: five fields, @daily and the like, or @every 1h30m; with TZ=NAME or not.
    """
    first, *more = [word for word in schedule.split() if not word.startswith(("TZ=", "CRON_TZ="))]
    if first == "@every":
        span = sum(
            float(count) * UNITS[fit_folder] for count, fit_folder in re.findall(r"([\d.]+)([hms])(?!s)", more[0])
        )
    elif first.startswith("@"):
        span = HOUR if first == "@hourly" else DAY  # every other word of cron's is a day or more
    elif first.isdigit():  # one minute of an hour, of one hour or of several
        span = DAY if more[0].isdigit() else HOUR
    else:
        span = MINUTE
    return min(span / 2, LONGEST)
