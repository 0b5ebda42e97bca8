"""`trainer status | logs | wait`: a run on Kubernetes, as one looks at it."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Final

import typer

from trainer_app.cli.formatting import one_line
from trainer_app.cli.options import Context, Endpoint, Namespace

if TYPE_CHECKING:
    from trainer_app.launch.kube import Kube, Object

WATCH_S: Final = 2.0

Run = Annotated[str | None, typer.Argument(metavar="[RUN]", help="A run's name; your newest if left out.")]
Values = Annotated[
    list[str] | None,
    typer.Option("--values", metavar="FILE", help="Of a run that is gone: what says where it is stored."),
]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Until the run ends.")]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Until the run ends; each change a line.")]
Workers = Annotated[bool, typer.Option("--workers", help="Of the workers and trials, from the storage.")]


def status(
    run: Run = None,
    namespace: Namespace = None,
    context: Context = None,
    endpoint: Endpoint = None,
    watch: Watch = False,
) -> int:
    """Show how far a run is, and what holds it up. Exit codes: those of wait, 0 while it runs."""
    from trainer_app.cli.tables import show_facts
    from trainer_app.launch import rayjobs, status

    kube, job = found(run, namespace, context)
    shown: set[tuple[str, str]] = set()
    while True:
        facts = status.get_status(kube, job, endpoint=endpoint).lines()
        if new := [fact for fact in facts if fact not in shown]:
            show_facts(new)
            sys.stdout.flush()
        shown = set(facts)
        if not watch or (rayjobs.has_ended(job) and not rayjobs.is_queued(job)):
            break
        time.sleep(WATCH_S)
        job = kube.get("RayJob", job["metadata"]["name"])
    return rayjobs.exit_code(job) if rayjobs.has_ended(job) and not rayjobs.is_queued(job) else 0


def logs(
    run: Run = None,
    namespace: Namespace = None,
    context: Context = None,
    endpoint: Endpoint = None,
    values: Values = None,
    follow: Follow = False,
    workers: Workers = False,
) -> None:
    """Print the driver's log: from its pod, or from the storage once that is gone (there within 10 s)."""
    from trainer_app.errors import InputError, NotFoundError
    from trainer_app.launch import location, rayjobs, stored_logs
    from trainer_app.launch.follow import DriverLog, follow_run
    from trainer_app.launch.kube import connect

    kube = connect(namespace, context)
    try:
        job: Object | None = location.find_rayjob(kube, run)
    except NotFoundError:
        if not run:
            raise
        job = None
    if job and not workers:
        name = job["metadata"]["name"]
        if follow and not rayjobs.has_ended(job):
            follow_run(kube, name, say=say, show=_show, endpoint=endpoint)
            return
        if DriverLog(kube, name, _show).read(follow=False):
            return
    if follow and not job:
        raise InputError(f"run {run} is gone from namespace {kube.namespace}: leave out --follow")
    where = location.location_of(job) if job else location.locate_run(kube, str(run), values or (), ())
    with location.storage_access(kube, where, endpoint):
        if workers and follow:
            stored_logs.follow_workers(kube, where, show=_show)
        else:
            stored_logs.show_logs(where, workers=workers, out=_show)


def wait(run: Run = None, namespace: Namespace = None, context: Context = None, endpoint: Endpoint = None) -> int:
    """Wait until a run ends. Exit codes: 0 SUCCEEDED, 1 FAILED, 130 STOPPED."""
    from trainer_app.launch import status
    from trainer_app.launch.follow import follow_run

    kube, job = found(run, namespace, context)
    name = job["metadata"]["name"]
    code = follow_run(kube, name, say=say, show=None)
    if code == 1:  # the run's own words: the operator's say that a process ended
        say(f"error: {status.get_status(kube, kube.get('RayJob', name), endpoint=endpoint).error}")
    return code


def found(run: str | None, namespace: str | None, context: str | None) -> tuple[Kube, Object]:
    """The cluster, and the RayJob of the run, or of this user's newest."""
    from trainer_app.launch import location
    from trainer_app.launch.kube import connect

    kube = connect(namespace, context)
    return kube, location.find_rayjob(kube, run)


def say(line: str) -> None:
    print(one_line(line), file=sys.stderr, flush=True)


def _show(line: str) -> None:
    print(line, flush=True)
