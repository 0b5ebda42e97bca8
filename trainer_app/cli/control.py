"""`trainer stop | resume | delete`: a run on Kubernetes, as one changes it. Each can be repeated."""

from __future__ import annotations

from typing import Annotated

import typer

from trainer_app.cli.options import Context, Endpoint, Namespace, Sets
from trainer_app.cli.remote import Run, found, say

Named = Annotated[str, typer.Argument(metavar="RUN", help="A run's name.")]
Grace = Annotated[
    float, typer.Option(metavar="SECONDS", min=0, help="How long to wait for the commit at the end of the epoch.")
]
Values = Annotated[
    list[str] | None,
    typer.Option("--values", "-f", metavar="FILE", help="Of a run that is gone: what says where it is stored."),
]


def stop(
    run: Run = None,
    namespace: Namespace = None,
    context: Context = None,
    endpoint: Endpoint = None,
    grace: Grace = 300.0,
) -> None:
    """Have a run commit and give its nodes back; `trainer resume` goes on from there."""
    from trainer_app.launch import control

    kube, job = found(run, namespace, context)
    control.stop(kube, job, grace=grace, say=say, endpoint=endpoint)


def resume(
    run: Run = None,
    namespace: Namespace = None,
    context: Context = None,
    endpoint: Endpoint = None,
    values: Values = None,
    sets: Sets = None,
) -> None:
    """Go on with a run that was stopped, that failed, or whose objects are gone."""
    from trainer_app.errors import NotFoundError
    from trainer_app.launch import control, location
    from trainer_app.launch.kube import connect
    from trainer_app.launch.resubmit import resubmit

    kube = connect(namespace, context)
    try:
        job = location.find_rayjob(kube, run)
    except NotFoundError:
        if not run:
            raise
        where = location.locate_run(kube, run, values or (), sets or ())
    else:
        if control.resume(kube, job, say=say, endpoint=endpoint):
            return
        where = location.location_of(job)
    resubmit(kube, where, say=say, values=values or (), sets=sets or (), endpoint=endpoint)


def delete(
    run: Named,
    namespace: Namespace = None,
    context: Context = None,
    endpoint: Endpoint = None,
    grace: Grace = 60.0,
) -> None:
    """Stop a run and delete its objects; what it stored stays. Nothing there is no error."""
    from trainer_app.errors import NotFoundError
    from trainer_app.launch import control
    from trainer_app.launch.kube import connect

    kube = connect(namespace, context)
    try:
        job = kube.get("RayJob", run)
    except NotFoundError:
        say(f"there is no run {run} in namespace {kube.namespace}")
        return
    control.delete(kube, job, grace=grace, say=say, endpoint=endpoint)
