"""How far a run is, from its RayJob, its pods, events, and its storage."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from trainer_app.errors import TrainerError
from trainer_app.formatting import progress
from trainer_app.launch import cron, location, pods, rayjobs
from trainer_app.launch.follow import find_blockers
from trainer_app.launch.kube import Kube, Object
from trainer_app.launch.remote_run import RemoteRun
from trainer_app.launch.submitted import USER
from trainer_app.progress_line import ANNOTATION
from trainer_app.records import RunRecord

PARALLEL: Final = 16
ENDS_SHOWN: Final = 3  # of earlier attempts, the newest
UNREADABLE: Final = "can't be read from here"


@dataclass(frozen=True)
class RunStatus:
    """A run at one moment.

    Args:
        phase: submitted, queued, creating pods, waiting for nodes, pulling, starting, running, retrying, stopping,
            suspended, succeeded, failed, stopped.
        record: what the run wrote about itself; None before it began, or if its storage can't be read.
        blockers: why it does not run, one line each.
        storage_error: why the storage could not be read.
        attempts: how often the workers of a train run were started.
    """

    rayjob: Object
    phase: str
    pods: list[Object] = field(default_factory=list)
    record: RunRecord | None = None
    blockers: list[str] = field(default_factory=list)
    storage_error: str = ""
    attempts: int = 0

    @property
    def error(self) -> str:
        """Why it failed: the run's own error if there is one, since the operator only knows that a process ended."""
        if self.record and self.record.state == "failed" and self.record.error:
            return self.record.error
        reported = self.rayjob.get("status", {})
        failed = self.phase in ("failed", "retrying")
        parts = [reported[key] for key in ("reason", "message") if reported.get(key)] if failed else []
        return ": ".join([*parts, *rayjobs.explain_reason(self.rayjob)])

    @property
    def recovered(self) -> str:
        """Where a run resumed that was stopped, or lost its driver or a worker; "" in its first attempt."""
        reported = self.rayjob.get("status", {})
        attempt = max(self.record.attempt if self.record else 1 + int(reported.get("failed") or 0), self.attempts)
        if attempt < 2 or self.phase not in ("running", "succeeded"):
            return ""
        # KubeRay sets startTime anew for each cluster: one that is younger than the run is not its first.
        started = datetime.fromisoformat(reported["startTime"]).timestamp() if reported.get("startTime") else 0.0
        is_new_cluster = self.record is None or started > self.record.created
        return f"{'on a new cluster' if is_new_cluster else 'in place'}, attempt {attempt}"

    @property
    def progress(self) -> str:
        """How far it is, from its own record, else from its RayJob's annotations.

        A scheduled run that wrote neither was a duplicate of another run.
        """
        if self.record:
            return format_progress(self.record)
        if reported := self.rayjob["metadata"].get("annotations", {}).get(f"{ANNOTATION}progress"):
            return str(reported)
        is_duplicate = self.phase == "succeeded" and cron.is_scheduled(self.rayjob) and not self.storage_error
        return "skipped: KubeRay triggered the schedule twice, and another run was first" if is_duplicate else ""

    def lines(self) -> list[tuple[str, str]]:
        """Return (label, text) pairs to show."""
        lines = [("run", f"{self.rayjob['metadata']['name']}: {self.phase}"), ("task", self._task())]
        if self.error:
            lines.append(("error", self.error))
        if retry := rayjobs.format_retry(self.rayjob):
            lines.append(("retries", f"KubeRay is at {retry}"))
        lines += [("waiting", line) for line in self.blockers]
        if self.progress:
            lines.append(("progress", self.progress))
        if self.record:
            lines += self.record.past_ends[-ENDS_SHOWN:]
        if self.recovered:
            lines.append(("resumed", self.recovered))
        if self.storage_error:
            lines.append(("storage", self.storage_error))
        return lines + [("pod", format_pod(pod)) for pod in self.pods]

    def _task(self) -> str:
        meta = self.rayjob["metadata"]
        user = meta.get("annotations", {}).get(USER)
        submitted = f", submitted by {user}" if user else ""
        return f"{location.task_of(self.rayjob) or '?'}{submitted}, {meta['creationTimestamp']}"


def get_status(kube: Kube, rayjob: Object, *, endpoint: str | None = None) -> RunStatus:
    """Return all that is known of a run, in about a second. A storage that can't be read is no failure.

    Args:
        endpoint: the storage's address from this machine; None for the pods' own, a Service's by a port-forward.
    """
    with ThreadPoolExecutor(3) as pool:
        run_pods = pool.submit(pods.find_run_pods, kube, rayjob)
        blockers = pool.submit(find_blockers, kube, rayjob, run_pods.result)
        stored = pool.submit(_read_record, kube, rayjob, endpoint)
        record, error, attempts = stored.result()
        phase = run_phase(rayjob, run_pods.result(), record)
        return RunStatus(rayjob, phase, run_pods.result(), record, blockers.result(), error, attempts)


def run_phase(rayjob: Object, run_pods: Sequence[Object], record: RunRecord | None = None) -> str:
    """Return the phase, as in `RunStatus`; failed also while KubeRay retries a run whose error is permanent.

    Args:
        record: its run.json; None if it has not started or can't be read.
    """
    status = rayjobs.status(rayjob)
    if rayjobs.is_queued(rayjob):
        return "queued"
    if status in rayjobs.ENDED:
        if status == "Suspended":
            return "suspended"
        return {0: "succeeded", 130: "stopped"}.get(rayjobs.exit_code(rayjob), "failed")
    # Before KubeRay sees the end of the job, and beside a retry of it: this submission's permanent error.
    is_permanent = record and record.final and record.submission == rayjob["spec"].get("jobId")
    if record and record.state == "failed" and (is_permanent or rayjobs.format_retry(rayjob)):
        return "failed"
    if status in ("Running", "Retrying", "Suspending"):
        return {"Suspending": "stopping"}.get(status, status.lower())
    if status == "New":
        return "submitted"
    return _startup_phase(run_pods)


def _startup_phase(run_pods: Sequence[Object]) -> str:
    phases = {pods.phase(pod) for pod in run_pods} - {"leaving", "succeeded", "failed"}
    for pod_phase, phase in (("pending", "waiting for nodes"), ("pulling", "pulling"), ("starting", "starting")):
        if pod_phase in phases:
            return f"{phase} ({pods.format_counts(run_pods)})"
    return "creating pods" if not phases else "starting the job"


def format_progress(record: RunRecord) -> str:
    """`running, 3/5 epochs, best val_accuracy=0.93, attempt 2`"""
    parts: list[str] = [record.state]
    if record.done is not None:
        parts.append(progress(record.done, *record.target))
    if record.best is not None and record.metric:
        parts.append(f"best {record.metric}={record.best:.4g}")
    return ", ".join([*parts, *([f"attempt {record.attempt}"] if record.attempt > 1 else [])])


def format_pod(pod: Object) -> str:
    """`mnist-abcde-head: running (node-1)`"""
    return f"{pod['metadata']['name']}: {pods.phase(pod)} ({pod['spec'].get('nodeName') or 'no node yet'})"


def list_statuses(kube: Kube, *, endpoint: str | None = None) -> list[RunStatus]:
    """Return every run of the namespace, newest first, without its pods."""
    all_rayjobs = location.list_rayjobs(kube)
    groups: dict[location.RunLocation, list[str]] = {}
    for rayjob in all_rayjobs:
        run_location = replace(location.location_of(rayjob), run="")
        groups.setdefault(run_location, []).append(rayjob["metadata"]["name"])
    records: dict[str, tuple[RunRecord | None, str]] = {}
    for run_location, names in groups.items():
        has_endpoint = run_location.endpoint or "?" in run_location.uri
        known = replace(run_location, run=_own_run(kube, all_rayjobs, names) if has_endpoint else "")
        records |= _read_records(kube, known, names, endpoint)
    return [
        RunStatus(rayjob, run_phase(rayjob, [], record), record=record, storage_error=error)
        for rayjob in all_rayjobs
        for record, error in [records[rayjob["metadata"]["name"]]]
    ]


def _own_run(kube: Kube, all_rayjobs: Sequence[Object], names: Sequence[str]) -> str:
    """Return which of these runs this user submitted, else the first: its ConfigMap may name the storage's endpoint."""
    user = kube.user()
    own = (one["metadata"] for one in all_rayjobs if one["metadata"].get("annotations", {}).get(USER) == user)
    return next((meta["name"] for meta in own if meta["name"] in names), names[0])


def _read_records(
    kube: Kube, run_location: location.RunLocation, names: list[str], endpoint: str | None
) -> dict[str, tuple[RunRecord | None, str]]:
    """Return (record, why it can't be read) by run, of runs in one storage."""

    def read(name: str) -> tuple[RunRecord | None, str]:
        try:
            return RemoteRun.open(run_location.uri, name).read_record(), ""
        except TrainerError as error:
            return None, f"{UNREADABLE}: {error}"

    try:
        with location.storage_access(kube, run_location, endpoint), ThreadPoolExecutor(PARALLEL) as pool:
            return dict(zip(names, pool.map(read, names), strict=True))
    except TrainerError as error:
        return dict.fromkeys(names, (None, f"{UNREADABLE}: {error}"))


def _read_record(kube: Kube, rayjob: Object, endpoint: str | None) -> tuple[RunRecord | None, str, int]:
    """Return (the run's record, why it can't be read, its attempts)."""
    run_location = location.location_of(rayjob)
    try:
        with location.storage_access(kube, run_location, endpoint):
            remote_run = RemoteRun.open(run_location.uri, rayjob["metadata"]["name"])
            record = remote_run.read_record()
            return record, "", remote_run.count_attempts() if record and record.task == "train" else 0
    except TrainerError as error:
        return None, f"{UNREADABLE}: {error}", 0
