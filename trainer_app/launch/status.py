"""How far a run is: from the RayJob, its pods, events, and its storage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from trainer_app.errors import TrainerError
from trainer_app.launch import cron, location, pods, rayjobs
from trainer_app.launch.follow import find_blockers
from trainer_app.launch.kube import Kube, Object
from trainer_app.launch.remote_run import RemoteRun
from trainer_app.records import RunRecord

PARALLEL: Final = 16


@dataclass(frozen=True)
class RunStatus:
    """A run now.

    Args:
        phase: submitted, queued, creating pods, waiting for nodes, pulling, starting, running, retrying, stopping,
            suspended, succeeded, failed, stopped.
        record: what the run wrote about itself; None before it began, or where its storage can't be read.
        held: what holds it up, a line each.
        problem: why the storage could not be read.
        attempts: of a train run's workers.
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
        """Why it failed: the run's own words before the operator's, which only knows that a process ended."""
        if self.record and self.record.state == "failed" and self.record.error:
            return self.record.error
        known = self.rayjob.get("status", {})
        failed = self.phase in ("failed", "retrying")
        return ": ".join(known[key] for key in ("reason", "message") if known.get(key)) if failed else ""

    @property
    def recovered(self) -> str:
        """Where a run that lost something, or was stopped, went on; "" where it is at its first attempt."""
        known = self.rayjob.get("status", {})
        attempt = max(self.record.attempt if self.record else 1 + int(known.get("failed") or 0), self.attempts)
        if attempt < 2 or self.phase not in ("running", "succeeded"):
            return ""
        # KubeRay sets startTime anew for each cluster: one that is younger than the run is not its first.
        began = datetime.fromisoformat(known["startTime"]).timestamp() if known.get("startTime") else 0.0
        younger = self.record is None or began > self.record.created
        return f"{'on a new cluster' if younger else 'in place'}, attempt {attempt}"

    @property
    def progress(self) -> str:
        """How far it came, as it wrote itself; a firing that has written nothing was left to another run."""
        if self.record:
            return format_progress(self.record)
        left = self.phase == "succeeded" and cron.is_scheduled(self.rayjob) and not self.storage_error
        return "nothing trained: KubeRay fired the same time twice, and another run has it" if left else ""

    def lines(self) -> list[tuple[str, str]]:
        """Label and text, for people."""
        facts = [("run", f"{self.rayjob['metadata']['name']}: {self.phase}"), ("task", self._task())]
        if self.error:
            facts.append(("error", self.error))
        if retry := rayjobs.format_retry(self.rayjob):
            facts.append(("retries", f"KubeRay is at {retry}"))
        facts += [("held up", line) for line in self.blockers]
        if self.progress:
            facts.append(("progress", self.progress))
        if self.recovered:
            facts.append(("went on", self.recovered))
        if self.storage_error:
            facts.append(("storage", self.storage_error))
        return facts + [("pod", format_pod(pod)) for pod in self.pods]

    def _task(self) -> str:
        notes = self.rayjob["metadata"].get("annotations", {})
        by = f", submitted by {notes[location.USER_ANNOTATION]}" if notes.get(location.USER_ANNOTATION) else ""
        return f"{location.task_of(self.rayjob) or '?'}{by}, {self.rayjob['metadata']['creationTimestamp']}"


def get_status(kube: Kube, rayjob: Object, *, endpoint: str | None = None) -> RunStatus:
    """One look at everything. A storage that can't be read is told, and is no failure. Takes about a second."""
    with ThreadPoolExecutor(3) as pool:
        found = pool.submit(pods.list_run_pods, kube, rayjob["metadata"]["name"])
        held = pool.submit(find_blockers, kube, rayjob, found.result)
        remote_run = pool.submit(_read_record, kube, rayjob, endpoint)
        record, problem, attempts = remote_run.result()
        words = run_phase(rayjob, found.result(), record)
        return RunStatus(rayjob, words, found.result(), record, held.result(), problem, attempts)


def run_phase(rayjob: Object, found: Sequence[Object], record: RunRecord | None = None) -> str:
    """See `RunStatus`. A run that failed for good is failed, also while KubeRay tries what can't succeed again."""
    status = rayjobs.status(rayjob)
    if rayjobs.is_queued(rayjob):
        return "queued"
    if status in rayjobs.ENDED:
        if status == "Suspended":
            return "suspended"
        return {0: "succeeded", 130: "stopped"}.get(rayjobs.exit_code(rayjob), "failed")
    # Until KubeRay sees the end of the job, and beside a retry of it: what this submission failed with for good.
    hopeless = record and record.final and record.submission == rayjob["spec"].get("jobId")
    if record and record.state == "failed" and (hopeless or rayjobs.format_retry(rayjob)):
        return "failed"
    if status in ("Running", "Retrying", "Suspending"):
        return {"Suspending": "stopping"}.get(status, status.lower())
    if status == "New":
        return "submitted"
    return _startup_phase(found)


def _startup_phase(found: Sequence[Object]) -> str:
    phases = {pods.phase(pod) for pod in found} - {"leaving", "succeeded", "failed"}
    for one, words in (("pending", "waiting for nodes"), ("pulling", "pulling"), ("starting", "starting")):
        if one in phases:
            return f"{words} ({pods.format_counts(found)})"
    return "creating pods" if not phases else "starting the job"


def format_progress(record: RunRecord) -> str:
    """`running, 3/5 epochs, best val_accuracy=0.93, attempt 2`"""
    target, what = (record.num_samples, "trials") if record.task == "tune" else (record.epochs, "epochs")
    parts: list[str] = [record.state]
    if record.done is not None:
        parts.append(f"{record.done}{f'/{target}' if target and target > 0 else ''} {what}")
    if record.best is not None and record.metric:
        parts.append(f"best {record.metric}={record.best:.4g}")
    return ", ".join([*parts, *([f"attempt {record.attempt}"] if record.attempt > 1 else [])])


def format_pod(pod: Object) -> str:
    return f"{pod['metadata']['name']}: {pods.phase(pod)} ({pod['spec'].get('nodeName') or 'no node yet'})"


def list_statuses(kube: Kube, *, endpoint: str | None = None) -> list[RunStatus]:
    """Every run of the namespace, newest first, without its pods."""
    jobs = location.list_rayjobs(kube)
    groups: dict[location.RunLocation, list[Object]] = {}
    for rayjob in jobs:
        found = location.location_of(rayjob)
        groups.setdefault(location.RunLocation("", found.uri, found.endpoint, found.region, found.secret), []).append(
            rayjob
        )
    read: dict[str, tuple[RunRecord | None, str]] = {}
    for run_location, members in groups.items():
        read |= _read_records(kube, run_location, members, endpoint)
    return [
        RunStatus(rayjob, run_phase(rayjob, [], record), [], record, [], problem)
        for rayjob in jobs
        for record, problem in [read[rayjob["metadata"]["name"]]]
    ]


def _read_records(
    kube: Kube, run_location: location.RunLocation, jobs: list[Object], endpoint: str | None
) -> dict[str, tuple[RunRecord | None, str]]:
    names = [rayjob["metadata"]["name"] for rayjob in jobs]

    def read(name: str) -> tuple[RunRecord | None, str]:
        with _storage_errors() as problem:
            return RemoteRun.open(run_location.uri, name).read_record(), ""
        return None, problem[0]

    with (
        _storage_errors() as problem,
        location.storage_access(kube, run_location, endpoint),
        ThreadPoolExecutor(PARALLEL) as pool,
    ):
        return dict(zip(names, pool.map(read, names), strict=True))
    return dict.fromkeys(names, (None, problem[0]))


def _read_record(kube: Kube, rayjob: Object, endpoint: str | None) -> tuple[RunRecord | None, str, int]:
    """(what the run wrote about itself, why that can't be read, its attempts)."""
    run_location = location.location_of(rayjob)
    with _storage_errors() as problem, location.storage_access(kube, run_location, endpoint):
        remote_run = RemoteRun.open(run_location.uri, rayjob["metadata"]["name"])
        record = remote_run.read_record()
        return record, "", remote_run.count_attempts() if record and record.task == "train" else 0
    return None, problem[0], 0


@contextmanager
def _storage_errors() -> Iterator[list[str]]:
    """An error inside becomes words."""
    words: list[str] = []
    try:
        yield words
    except TrainerError as error:
        words.append(f"can't be read from here: {error}")
