"""stop, resume, delete: what a person does to a run that is there. Each can be repeated."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from trainer_app.errors import InputError, NotFoundError, StorageError, TrainerError
from trainer_app.launch import location, pods, rayjob
from trainer_app.launch.kube import Kube, Object
from trainer_app.launch.remote_run import Stored, place_words

POLL_S: Final = 1.0
SUSPEND_S: Final = 120.0  # the operator acts within seconds; more means that it is not there
GONE_S: Final = 180.0  # terminationGracePeriodSeconds and Ray's drain, with room
Say = Callable[[str], None]


def stop(kube: Kube, job: Object, *, grace: float, say: Say, endpoint: str | None = None) -> None:
    """Have the run commit and end, then suspend it, so that it holds no node. Says the step it stopped at.

    Args:
        grace: seconds to wait for the commit: the rest of an epoch, its validation and the upload.
    """
    run = job["metadata"]["name"]
    if rayjob.ended(job) and rayjob.status(job) != "Suspended":
        say(f"{rayjob.state(job)}: nothing to stop")
        return
    if why := rayjob.suspendable(job):
        raise InputError(f"run {run} can't be suspended: {why}; end it with trainer delete {run}")
    if rayjob.queued(job):
        suspend(kube, job, on=True)
        say(f"run {run} waits in no queue any more; let it wait again with: trainer resume {run} -n {kube.namespace}")
        return
    with opened(kube, job, endpoint, say) as stored:
        if rayjob.status(job) == "Suspended" or job["spec"].get("suspend"):
            _until_suspended(kube, run)
            say(f"run {run} is stopped already, at {place_words(stored.stopped() if stored else None)}")
            return
        job, stopped = commit(kube, job, stored, grace=grace, say=say)
        if rayjob.ended(job):
            say(f"{rayjob.state(job)}: it ended before it could be stopped")
            return
        suspend(kube, job, on=True)
        _until_suspended(kube, run)
        began = stored is None or stored.record() is not None
    at = place_words(stopped) if stopped else "its newest commit" if began else "its beginning: it had not begun"
    say(f"stopped run {run} at {at}; go on with: trainer resume {run} -n {kube.namespace}")


@contextmanager
def opened(kube: Kube, job: Object, endpoint: str | None, say: Say) -> Iterator[Stored | None]:
    """The run's storage; None, and words, for what only pods reach: a volume, or what they alone know."""
    found = location.of(job)
    if "://" not in found.uri:
        where = "in a volume" if found.uri else "where its run file alone says"
        say(f"run {found.run} is stored {where}: it can't be asked to commit, and goes on from its newest commit")
        yield None
        return
    with location.reachable(kube, found, endpoint):
        yield Stored.open(found.uri, found.run)


def commit(
    kube: Kube, job: Object, stored: Stored | None, *, grace: float, say: Say
) -> tuple[Object, dict[str, Any] | None]:
    """(the RayJob, where the run stopped), once the run has committed, or has ended, or the grace is over.

    A run whose job has not begun has nothing to commit; one that KubeRay is about to retry has no driver to ask.
    """
    run = job["metadata"]["name"]
    if stored is None or rayjob.status(job) != "Running" or stored.record() is None:
        return job, None
    request = secrets.token_hex(8)
    stored.ask_to_stop(request, kube.user())
    say(f"asked run {run} to commit; waiting up to {grace:.0f} s")
    deadline = time.monotonic() + grace
    while time.monotonic() < deadline:
        if stopped := stored.stopped(request):
            return job, stopped
        job = kube.get("RayJob", run)
        if rayjob.ended(job):
            return job, None
        time.sleep(POLL_S)
    say(f"no commit within {grace:.0f} s: what run {run} did since its newest commit will be done again")
    return job, None


def suspend(kube: Kube, job: Object, *, on: bool) -> None:
    """Through Kueue's Workload where the run is queued: Kueue would undo what is done to the RayJob itself."""
    run = job["metadata"]["name"]
    if rayjob.QUEUE not in job["metadata"].get("labels", {}):
        kube.patch("RayJob", run, {"spec": {"suspend": on}})
        return
    for work in _workloads(kube, job):
        kube.patch("Workload", work["metadata"]["name"], {"spec": {"active": not on}})


def _workloads(kube: Kube, job: Object) -> list[Object]:
    """Kueue's, of a run that has a queue."""
    uid = job["metadata"]["uid"]
    owned = [
        work
        for work in kube.list("Workload")
        if any(owner["uid"] == uid for owner in work["metadata"].get("ownerReferences", []))
    ]
    if not owned:
        raise NotFoundError(f"Kueue has no Workload of run {job['metadata']['name']} yet; try again in a few seconds")
    return owned


def resume(kube: Kube, job: Object, *, say: Say, endpoint: str | None = None) -> bool:
    """Go on with a suspended run, once no pod of its former cluster is left.

    Returns:
        False for a run that must be created again: it failed or was stopped for good.
    """
    run = job["metadata"]["name"]
    status = rayjob.status(job)
    over = status in ("Failed", "ValidationFailed") or (status == "Complete" and rayjob.exit_code(job) != 0)
    if over:
        return False
    if status == "Complete" or not job["spec"].get("suspend"):  # what is suspending without it goes on by itself
        words = "has finished" if status == "Complete" else "is running"
        say(f"run {run} {words}: nothing to resume ({rayjob.state(job)})")
        return True
    if rayjob.queued(job) and all(work["spec"].get("active", True) for work in _workloads(kube, job)):
        say(f"run {run} waits in its queue: nothing to resume")
        return True
    _until_suspended(kube, run)
    until_no_pods(kube, run, say=say)
    at = "its newest commit"
    with opened(kube, job, endpoint, say) as stored:
        if stored:
            stopped = stored.stopped()
            at = place_words(stopped) if stopped else at
            stored.clear_stop()
    suspend(kube, job, on=False)
    say(f"resumed run {run}: it goes on from {at}")
    return True


def delete(kube: Kube, job: Object, *, grace: float, say: Say, endpoint: str | None = None) -> None:
    """Stop the job, then delete the run's objects; what it stored stays. Waits until its pods are gone.

    A storage that does not answer keeps nobody from deleting: what was trained since the newest commit is lost then.
    """
    run = job["metadata"]["name"]
    if grace > 0 and not rayjob.ended(job) and not job["spec"].get("suspend"):
        try:
            with opened(kube, job, endpoint, say) as stored:
                commit(kube, job, stored, grace=grace, say=say)
        except (StorageError, InputError) as error:
            say(f"could not ask run {run} to commit: {error}")
    remove(kube, run, say=say)
    say(f"deleted run {run} from namespace {kube.namespace}; what it stored stays")


def remove(kube: Kube, run: str, *, say: Say) -> None:
    """Delete the RayJob, and wait until it and its pods are gone; also of one that somebody else deleted."""
    with suppress(NotFoundError):
        kube.delete("RayJob", run)
    deadline = time.monotonic() + SUSPEND_S
    while time.monotonic() < deadline:
        try:
            kube.get("RayJob", run)
        except NotFoundError:
            until_no_pods(kube, run, say=say)
            return
        time.sleep(POLL_S)
    raise TrainerError(
        f"run {run} is still there {SUSPEND_S:.0f} s after it was deleted: the KubeRay operator, which must let it go, "
        "does not act; look with: trainer doctor"
    )


def until_no_pods(kube: Kube, run: str, *, say: Say) -> None:
    """KubeRay waits for the RayCluster object alone: its pods may hold GPUs and write for as long as their grace."""
    told = False
    deadline = time.monotonic() + GONE_S
    while left := [pod for pod in pods.of_run(kube, run) if pods.phase(pod) not in ("succeeded", "failed")]:
        names = ", ".join(pod["metadata"]["name"] for pod in left)
        if time.monotonic() > deadline:
            raise TrainerError(f"pods of run {run} are still there after {GONE_S:.0f} s: {names}; see why, then repeat")
        if not told:
            say(f"waiting for pods to end: {names}")
        told = True
        time.sleep(POLL_S)


def _until_suspended(kube: Kube, run: str) -> None:
    deadline = time.monotonic() + SUSPEND_S
    while True:
        job = kube.get("RayJob", run)
        if rayjob.status(job) == "Suspended":
            return
        if rayjob.ended(job):
            raise TrainerError(f"{rayjob.state(job)}: it could not be suspended")
        if time.monotonic() > deadline:
            raise TrainerError(
                f"run {run} is not suspended after {SUSPEND_S:.0f} s (it is {rayjob.status(job)}): is the KubeRay "
                "operator running? trainer doctor"
            )
        time.sleep(POLL_S)
