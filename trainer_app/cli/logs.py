"""`trainer logs`: the log of a run on Kubernetes, from its pod or from its storage."""

from __future__ import annotations

from typing import Annotated

import typer

from trainer_app.cli.connect import connect_stored_run, notify, print_line
from trainer_app.cli.options import Context, Endpoint, Follow, Namespace, RemoteRun, SubmittedValues
from trainer_app.errors import InputError

Workers = Annotated[bool, typer.Option("--workers", help="Print the workers' and trials' logs, from the storage.")]


def logs(
    run: RemoteRun = None,
    namespace: Namespace = None,
    context: Context = None,
    endpoint: Endpoint = None,
    values: SubmittedValues = None,
    follow: Follow = False,
    workers: Workers = False,
) -> None:
    """Print the driver's log: from its pod, or from the storage once the pod is gone (updated every 10 s)."""
    from trainer_app.launch import location, rayjobs, stored_logs
    from trainer_app.launch.follow import DriverLog, follow_run

    kube, job = connect_stored_run(run, namespace, context)
    if job and not workers:
        name = job["metadata"]["name"]
        if follow and not rayjobs.has_ended(job):
            follow_run(kube, name, say=notify, show=print_line, endpoint=endpoint)
            return
        if DriverLog(kube, name, print_line).read(follow=False):
            return
    if follow and not job:
        raise InputError(f"run {run} is gone from namespace {kube.namespace}: leave out --follow")
    where = location.location_of(job) if job else location.locate_run(kube, str(run), values or (), ())
    with location.storage_access(kube, where, endpoint):
        if workers and follow:
            stored_logs.follow_workers(kube, where, show=print_line)
        else:
            stored_logs.show_logs(where, workers=workers, out=print_line)
