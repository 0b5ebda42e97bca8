"""stop, resume, delete: what a user does to a run that exists. Each can be repeated.

Everywhere `say` is called with each line for the user, `endpoint` is the storage's address from this machine, if it is
not the pods', and `schedule` is the RayCronJob that created the run.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from trainer_app.errors import InputError, NotFoundError, StorageError
from trainer_app.launch import cron, location, rayjobs, submitted, waiting
from trainer_app.launch.kube import Kube, Object
from trainer_app.launch.remote_run import RemoteRun, format_position
from trainer_app.storage_uri import is_s3_uri

Say = Callable[[str], None]


def stop(kube: Kube, rayjob: Object, *, grace: float, say: Say, endpoint: str | None = None) -> None:
    """Have the run commit and end, then suspend it, so that it uses no node; say the step it stopped at.

    Args:
        grace: seconds to wait for the commit: the rest of an epoch, its validation and the upload.

    Raises:
        InputError: KubeRay would refuse to suspend it.
        TrainerError: the operator does not respond.
    """
    run = rayjob["metadata"]["name"]
    submitted.check_of_run(rayjob, "RayJob", run)
    if rayjobs.has_ended(rayjob) and rayjobs.status(rayjob) != "Suspended":
        say(f"{rayjobs.format_state(rayjob)}: nothing to stop")
        return
    if why := rayjobs.why_not_suspendable(rayjob):
        raise InputError(f"run {run} can't be suspended: {why}; end it with trainer delete {run}")
    if rayjobs.is_queued(rayjob):
        set_suspended(kube, rayjob, on=True)
        say(f"removed run {run} from its queue; queue it again with: trainer resume {run} -n {kube.namespace}")
        return
    with open_run(kube, rayjob, endpoint, say) as remote_run:
        if rayjobs.status(rayjob) == "Suspended" or rayjob["spec"].get("suspend"):
            waiting.until_suspended(kube, run)
            say(f"run {run} is stopped already, at {format_position(remote_run.read_stop() if remote_run else None)}")
            return
        rayjob, stopped = request_commit(kube, rayjob, remote_run, grace=grace, say=say)
        if rayjobs.has_ended(rayjob):
            say(f"{rayjobs.format_state(rayjob)}: the run ended before it was stopped")
            return
        set_suspended(kube, rayjob, on=True)
        waiting.until_suspended(kube, run)
        has_started = remote_run is None or remote_run.read_record() is not None
    where = f"at {format_position(stopped) if stopped else 'its newest commit'}" if has_started else "before it started"
    say(f"stopped run {run} {where}; resume it with: trainer resume {run} -n {kube.namespace}")


@contextmanager
def open_run(kube: Kube, rayjob: Object, endpoint: str | None, say: Say) -> Iterator[RemoteRun | None]:
    """Yield the run's opened folder in storage; None, and a line to `say`, if only its pods can open it.

    Args:
        endpoint: the storage's address from this machine; None for the pods' own, a Service's by a port-forward.
    """
    run_location = location.location_of(rayjob)
    if not is_s3_uri(run_location.uri):
        where = "in a volume" if run_location.uri else "where only its run file says"
        say(f"run {run_location.run} is stored {where}: it can't be asked to commit; its newest commit counts")
        yield None
        return
    with location.storage_access(kube, run_location, endpoint):
        yield RemoteRun.open(run_location.uri, run_location.run)


def request_commit(
    kube: Kube, rayjob: Object, remote_run: RemoteRun | None, *, grace: float, say: Say
) -> tuple[Object, dict[str, Any] | None]:
    """Ask the run to commit; return (the RayJob, where the run stopped, or None if it did not commit in time).

    A run that has not started has nothing to commit; one that KubeRay is about to retry has no driver to ask.

    Args:
        remote_run: its folder in storage; None if this machine can't open it, and nothing is asked.
        grace: seconds to wait until it has committed or ended.
    """
    run = rayjob["metadata"]["name"]
    if remote_run is None or rayjobs.status(rayjob) != "Running" or remote_run.read_record() is None:
        return rayjob, None
    request = secrets.token_hex(8)
    remote_run.request_stop(request, kube.user())
    say(f"asked run {run} to commit; waiting up to {grace:.0f} s")
    for _ in waiting.poll(grace):
        if stopped := remote_run.read_stop(request):
            return rayjob, stopped
        rayjob = kube.get("RayJob", run)
        if rayjobs.has_ended(rayjob):
            return rayjob, None
    say(f"no commit within {grace:.0f} s: run {run} will repeat what it did after its newest commit")
    return rayjob, None


def set_suspended(kube: Kube, rayjob: Object, *, on: bool) -> None:
    """Suspend or resume the RayJob; through Kueue's Workload if it has a queue, since Kueue would undo the former.

    Args:
        on: True suspends it, False resumes it.

    Raises:
        NotFoundError: it has a queue, but Kueue has no Workload of it yet.
    """
    run = rayjob["metadata"]["name"]
    if rayjobs.QUEUE not in rayjob["metadata"].get("labels", {}):
        kube.patch("RayJob", run, {"spec": {"suspend": on}})
        return
    for work in _workloads(kube, rayjob):
        kube.patch("Workload", work["metadata"]["name"], {"spec": {"active": not on}})


def _workloads(kube: Kube, rayjob: Object) -> list[Object]:
    """Return Kueue's Workloads of a run that has a queue."""
    meta = rayjob["metadata"]
    workloads = [
        work
        for work in kube.list("Workload")
        if any(owner["uid"] == meta["uid"] for owner in work["metadata"].get("ownerReferences", []))
    ]
    if not workloads:
        raise NotFoundError(f"Kueue has no Workload of run {meta['name']} yet; try again in a few seconds")
    return workloads


def resume(kube: Kube, rayjob: Object, *, say: Say, endpoint: str | None = None) -> bool:
    """Resume a suspended run once its former pods are gone.

    Returns:
        False if it failed or ended by a stop, and must be created again; else True, also if it needs no resume.

    Raises:
        TrainerError: it is not suspended, or its pods are not gone, in time: see `waiting`.
    """
    run, status = rayjob["metadata"]["name"], rayjobs.status(rayjob)
    submitted.check_of_run(rayjob, "RayJob", run)
    if status in ("Failed", "ValidationFailed") or (status == "Complete" and rayjobs.exit_code(rayjob) != 0):
        return False
    if status == "Complete" or not rayjob["spec"].get("suspend"):  # Suspending without it: KubeRay resumes by itself
        state = "has finished" if status == "Complete" else "is running"
        say(f"run {run} {state}: nothing to resume ({rayjobs.format_state(rayjob)})")
        return True
    if rayjobs.is_queued(rayjob) and all(work["spec"].get("active", True) for work in _workloads(kube, rayjob)):
        say(f"run {run} waits in its queue: nothing to resume")
        return True
    waiting.until_suspended(kube, run)
    waiting.until_no_pods(kube, run, cron.schedule_name(rayjob), say=say)
    position = "its newest commit"
    with open_run(kube, rayjob, endpoint, say) as remote_run:
        if remote_run:
            stopped = remote_run.read_stop()
            position = format_position(stopped) if stopped else position
            remote_run.clear_stop()
    set_suspended(kube, rayjob, on=False)
    say(f"resumed run {run} from {position}")
    return True


def delete(kube: Kube, rayjob: Object, *, grace: float, say: Say, endpoint: str | None = None) -> None:
    """Have the run commit, delete its objects, and wait until its pods are gone; what it stored stays.

    If the storage does not answer, it is deleted all the same: what was trained since the newest commit is lost.

    Args:
        grace: seconds to wait for the commit; 0 asks for none.

    Raises:
        TrainerError: the RayJob or its pods are not gone in time.
    """
    run = rayjob["metadata"]["name"]
    submitted.check_of_run(rayjob, "RayJob", run)
    if grace > 0 and not rayjobs.has_ended(rayjob) and not rayjob["spec"].get("suspend"):
        try:
            with open_run(kube, rayjob, endpoint, say) as remote_run:
                request_commit(kube, rayjob, remote_run, grace=grace, say=say)
        except (StorageError, InputError) as error:
            say(f"could not ask run {run} to commit: {error}")
    delete_rayjob(kube, run, say=say)
    submitted.remove(kube, run)
    say(f"deleted run {run} from namespace {kube.namespace}; what it stored stays")


def delete_rayjob(kube: Kube, run: str, *, say: Say) -> None:
    """Delete the RayJob if it exists, and wait until it and its pods are gone.

    Raises:
        TrainerError: it or its pods still exist after a while: see `waiting.until_deleted`.
    """
    schedule = ""
    with suppress(NotFoundError):
        schedule = cron.schedule_name(kube.get("RayJob", run))
        kube.delete("RayJob", run)
    waiting.until_deleted(kube, run, schedule, say=say)
