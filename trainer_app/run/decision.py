"""What the driver of a submission has to do: create the run, resume it, or report again how it ended."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Literal

from trainer_app.errors import AlreadyExistsError, InputError, NotFoundError, TrainerError
from trainer_app.formatting import one_line
from trainer_app.records import RunFolder, RunRecord
from trainer_app.run import documents, lease, lease_file, stop
from trainer_app.run.identity import ray_cluster_name
from trainer_app.run.retry import is_permanent
from trainer_app.storage import Store, store_name

KEY: Final = "submission.json"
FAILED_START: Final = 0  # the attempt of a run that failed before it was created


@dataclass(frozen=True)
class Decision:
    """What there is to do with a run, and the run's record if there is one."""

    what: Literal["create", "resume", "replay", "stopped"]
    record: RunRecord | None = None


def decide(storage: Store, name: str, submission: str) -> Decision:
    """Return what the driver of a submission has to do with run `name`.

    Args:
        submission: the id of this driver's submission.

    Raises:
        InputError: the run belongs to another submission.
        StorageError: the storage did not answer, or the run's record is damaged.
    """
    store = storage.child(name)
    storage.list_folders(name)  # fails if the bucket is missing, which a look for one object does not say
    note = documents.read(store, KEY)
    record = _record(storage, name)
    owner = note.get("submission") if note else record.submission if record else submission
    if owner != submission:
        whose = f"submission {owner}" if owner else "no submission (it was started by hand)"
        where = f"run {name} in {storage.uri}"
        raise InputError(f"{where} belongs to {whose}, not to {submission}: submit it under another name")
    if record is not None and record.submission == submission and _ended(record):
        return Decision("replay", record)
    if stop.read_request(store) is not None:
        return Decision("stopped", record)
    if record is None or not store.exists("run.yaml"):  # it never began, or its start was cut short
        return Decision("create")
    return Decision("resume", record)


def decide_under_lease(
    storage: Store, name: str, submission: str, *, task: str, say: Callable[[str], None]
) -> Decision:
    """Acquire the run's lease, unless the run has ended, and return what there is to do.

    The decision is made again after waiting for another driver's lease, since that driver may have ended the run.

    Args:
        say: called with a line for users: what is waited for, and where the run resumes.

    Raises:
        InputError, StorageError: as `decide`.
    """
    decision = decide(storage, name, submission)
    if decision.what == "replay":
        return decision
    store = storage.child(name)
    former = lease_file.read(store)
    lease.acquire(store, submission, wait=True, say=say)
    try:
        decision = decide(storage, name, submission)
        if decision.what == "create":
            lease.fence(store).delete("run.json")  # of a run that never began, or of a start that was cut short
            claim(store, submission, task=task)
    except TrainerError:
        lease.release(store)
        raise
    if decision.what == "replay":
        lease.release(store)
    if decision.what == "resume" and former and (now := ray_cluster_name()):
        was = former.get("cluster")
        where = f"in place, on {now}" if was == now else f"on a new cluster, {now} (it was on {was or 'none'})"
        say(f"run {name} resumes {where}")
    return decision


def _record(storage: Store, name: str) -> RunRecord | None:
    try:
        return RunFolder.open(storage, name).record
    except NotFoundError:
        return None


def _ended(record: RunRecord) -> bool:
    return record.state == "succeeded" or (record.state == "failed" and record.final)


def claim(store: Store, submission: str | None, *, task: str) -> None:
    """Note which submission the run belongs to, unless the launcher has done so.

    Args:
        store: the run's folder.
        submission: its id; None, of a run that a user started by hand, notes nothing.
        task: train or tune.
    """
    with suppress(AlreadyExistsError):
        if submission is not None:
            write_owner(store, submission, task=task, create=True)


def write_owner(store: Store, submission: str, *, task: str, create: bool = False) -> None:
    """Write which submission the run belongs to.

    Args:
        store: the run's folder.
        create: whether the note must be the first.

    Raises:
        AlreadyExistsError: with `create`, if there is one.
    """
    document = {"submission": submission, "run": store_name(store), "task": task, "created": round(time.time(), 3)}
    documents.write(store, KEY, document, create=create)


def record_failed_start(storage: Store, name: str, submission: str, error: TrainerError, **about: Any) -> None:
    """Record a run that fails before it is created, if another attempt would fail alike.

    Args:
        error: why it fails.
        about: further fields of the record, `task` among them.
    """
    if storage.exists(f"{name}/run.json") or not is_permanent(error):
        return
    store = lease.fence(storage.child(name))
    record = RunRecord(
        name=name,
        attempt=FAILED_START,
        state="failed",
        final=True,
        submission=submission,
        exit_code=error.exit_code,
        error=one_line(error),
        traceback="".join(traceback.format_exception(error)),
        **about,
    )
    with suppress(AlreadyExistsError):
        store.put("run.json", record.to_json(), create=True)
        claim(store, submission, task=record.task)
