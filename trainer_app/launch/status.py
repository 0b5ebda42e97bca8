"""How far a run is: from the RayJob, its pods, events, and its storage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from trainer_app.errors import TrainerError
from trainer_app.launch import cron, location, pods, rayjob
from trainer_app.launch.follow import held_up
from trainer_app.launch.kube import Kube, Object
from trainer_app.launch.remote_run import Stored
from trainer_app.records import RunRecord

PARALLEL: Final = 16


@dataclass(frozen=True)
class Overview:
    """A run now.

    Args:
        phase: submitted, queued, creating pods, waiting for nodes, pulling, starting, running, retrying, stopping,
            suspended, succeeded, failed, stopped.
        record: what the run wrote about itself; None before it began, or where its storage can't be read.
        held: what holds it up, a line each.
        problem: why the storage could not be read.
        attempts: of a train run's workers.
    """

    job: Object
    phase: str
    found: list[Object] = field(default_factory=list)
    record: RunRecord | None = None
    held: list[str] = field(default_factory=list)
    problem: str = ""
    attempts: int = 0

    @property
    def error(self) -> str:
        """Why it failed: the run's own words before the operator's, which only knows that a process ended."""
        if self.record and self.record.state == "failed" and self.record.error:
            return self.record.error
        known = self.job.get("status", {})
        failed = self.phase in ("failed", "retrying")
        return ": ".join(known[key] for key in ("reason", "message") if known.get(key)) if failed else ""

    @property
    def recovered(self) -> str:
        """Where a run that lost something, or was stopped, went on; "" where it is at its first attempt."""
        known = self.job.get("status", {})
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
            return progress(self.record)
        left = self.phase == "succeeded" and cron.fired(self.job) and not self.problem
        return "nothing trained: KubeRay fired the same time twice, and another run has it" if left else ""

    def lines(self) -> list[tuple[str, str]]:
        """Label and text, for people."""
        facts = [("run", f"{self.job['metadata']['name']}: {self.phase}"), ("task", self._task())]
        if self.error:
            facts.append(("error", self.error))
        if retry := rayjob.retry(self.job):
            facts.append(("retries", f"KubeRay is at {retry}"))
        facts += [("held up", line) for line in self.held]
        if self.progress:
            facts.append(("progress", self.progress))
        if self.recovered:
            facts.append(("went on", self.recovered))
        if self.problem:
            facts.append(("storage", self.problem))
        return facts + [("pod", pod_line(pod)) for pod in self.found]

    def _task(self) -> str:
        notes = self.job["metadata"].get("annotations", {})
        by = f", submitted by {notes[location.USER]}" if notes.get(location.USER) else ""
        return f"{location.task_of(self.job) or '?'}{by}, {self.job['metadata']['creationTimestamp']}"


def look(kube: Kube, job: Object, *, endpoint: str | None = None) -> Overview:
    """One look at everything. A storage that can't be read is told, and is no failure. Takes about a second."""
    with ThreadPoolExecutor(3) as pool:
        found = pool.submit(pods.of_run, kube, job["metadata"]["name"])
        held = pool.submit(held_up, kube, job, found.result)
        stored = pool.submit(_record, kube, job, endpoint)
        record, problem, attempts = stored.result()
        words = phase(job, found.result(), record)
        return Overview(job, words, found.result(), record, held.result(), problem, attempts)


def phase(job: Object, found: Sequence[Object], record: RunRecord | None = None) -> str:
    """See `Overview`. A run that failed for good is failed, also while KubeRay tries what can't succeed again."""
    status = rayjob.status(job)
    if rayjob.queued(job):
        return "queued"
    if status in rayjob.ENDED:
        if status == "Suspended":
            return "suspended"
        return {0: "succeeded", 130: "stopped"}.get(rayjob.exit_code(job), "failed")
    # Until KubeRay sees the end of the job, and beside a retry of it: what this submission failed with for good.
    hopeless = record and record.final and record.submission == job["spec"].get("jobId")
    if record and record.state == "failed" and (hopeless or rayjob.retry(job)):
        return "failed"
    if status in ("Running", "Retrying", "Suspending"):
        return {"Suspending": "stopping"}.get(status, status.lower())
    if status == "New":
        return "submitted"
    return _starting(found)


def _starting(found: Sequence[Object]) -> str:
    phases = {pods.phase(pod) for pod in found} - {"leaving", "succeeded", "failed"}
    for one, words in (("pending", "waiting for nodes"), ("pulling", "pulling"), ("starting", "starting")):
        if one in phases:
            return f"{words} ({pods.counts(found)})"
    return "creating pods" if not phases else "starting the job"


def progress(record: RunRecord) -> str:
    """`running, 3/5 epochs, best val_accuracy=0.93, attempt 2`"""
    target, what = (record.num_samples, "trials") if record.task == "tune" else (record.epochs, "epochs")
    parts: list[str] = [record.state]
    if record.done is not None:
        parts.append(f"{record.done}{f'/{target}' if target and target > 0 else ''} {what}")
    if record.best is not None and record.metric:
        parts.append(f"best {record.metric}={record.best:.4g}")
    return ", ".join([*parts, *([f"attempt {record.attempt}"] if record.attempt > 1 else [])])


def pod_line(pod: Object) -> str:
    return f"{pod['metadata']['name']}: {pods.phase(pod)} ({pod['spec'].get('nodeName') or 'no node yet'})"


def all_of(kube: Kube, *, endpoint: str | None = None) -> list[Overview]:
    """Every run of the namespace, newest first, without its pods."""
    jobs = location.jobs(kube)
    groups: dict[location.Place, list[Object]] = {}
    for job in jobs:
        found = location.of(job)
        groups.setdefault(location.Place("", found.uri, found.endpoint, found.region, found.secret), []).append(job)
    read: dict[str, tuple[RunRecord | None, str]] = {}
    for where, members in groups.items():
        read |= _records(kube, where, members, endpoint)
    return [
        Overview(job, phase(job, [], record), [], record, [], problem)
        for job in jobs
        for record, problem in [read[job["metadata"]["name"]]]
    ]


def _records(
    kube: Kube, where: location.Place, jobs: list[Object], endpoint: str | None
) -> dict[str, tuple[RunRecord | None, str]]:
    names = [job["metadata"]["name"] for job in jobs]

    def read(name: str) -> tuple[RunRecord | None, str]:
        with _told() as problem:
            return Stored.open(where.uri, name).record(), ""
        return None, problem[0]

    with _told() as problem, location.reachable(kube, where, endpoint), ThreadPoolExecutor(PARALLEL) as pool:
        return dict(zip(names, pool.map(read, names), strict=True))
    return dict.fromkeys(names, (None, problem[0]))


def _record(kube: Kube, job: Object, endpoint: str | None) -> tuple[RunRecord | None, str, int]:
    """(what the run wrote about itself, why that can't be read, its attempts)."""
    where = location.of(job)
    with _told() as problem, location.reachable(kube, where, endpoint):
        stored = Stored.open(where.uri, job["metadata"]["name"])
        record = stored.record()
        return record, "", stored.attempts() if record and record.task == "train" else 0
    return None, problem[0], 0


@contextmanager
def _told() -> Iterator[list[str]]:
    """An error inside becomes words."""
    words: list[str] = []
    try:
        yield words
    except TrainerError as error:
        words.append(f"can't be read from here: {error}")
