"""`trainer status | logs | wait | delete`: a run on Kubernetes, while it is there."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from trainer_app.cli.text import one_line

if TYPE_CHECKING:
    from trainer_app.launch.kube import Kube

Run = Annotated[str | None, typer.Argument(metavar="[RUN]", help="A run's name; the newest if left out.")]
Named = Annotated[str, typer.Argument(metavar="RUN", help="A run's name.")]
Namespace = Annotated[
    str | None,
    typer.Option("--namespace", "-n", metavar="NS", envvar="TRAINER_NAMESPACE", help="[default: the context's]."),
]
Context = Annotated[str | None, typer.Option(metavar="NAME", help="Of the kubeconfig [default: the current one].")]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Until the run ends.")]


def status(run: Run = None, namespace: Namespace = None, context: Context = None) -> int:
    """Show how far a run is, and what holds it up. Exit codes: those of wait, 0 while it runs."""
    from trainer_app.launch import follow

    kube, name = _found(run, namespace, context)
    job = kube.get("RayJob", name)
    pods = follow.pods(kube, job)
    print(follow.state(job))
    for pod in pods:
        node = pod["spec"].get("nodeName", "no node yet")
        print(f"  {pod['metadata']['name']}: {pod['status']['phase']} ({node})")
    for line in follow.stuck(pods):
        print(one_line(line))
    return follow.exit_code(job) if follow.status(job) in follow.ENDED else 0


def logs(run: Run = None, namespace: Namespace = None, context: Context = None, follow: Follow = False) -> None:
    """Print the driver's log."""
    from trainer_app.launch.follow import DriverLog, until_end

    kube, name = _found(run, namespace, context)
    if follow:
        until_end(kube, name, say=_say, show=_show)
    else:
        DriverLog(kube, name, _show).read(follow=False)


def wait(run: Run = None, namespace: Namespace = None, context: Context = None) -> int:
    """Wait until a run ends. Exit codes: 0 SUCCEEDED, 1 FAILED, 130 STOPPED."""
    from trainer_app.launch.follow import until_end

    kube, name = _found(run, namespace, context)
    return until_end(kube, name, say=_say, show=None)


def delete(run: Named, namespace: Namespace = None, context: Context = None) -> None:
    """Delete a run's objects, which stops it; what it stored stays. Nothing there is no error."""
    from trainer_app.errors import NotFound
    from trainer_app.launch.kube import connect

    kube = connect(namespace, context)
    try:
        kube.delete("RayJob", run)
    except NotFound:
        _say(f"there is no run {run} in namespace {kube.namespace}")


def _found(run: str | None, namespace: str | None, context: str | None) -> tuple[Kube, str]:
    from trainer_app.launch import place
    from trainer_app.launch.kube import connect

    kube = connect(namespace, context)
    return kube, place.find(kube, run).run


def _say(line: str) -> None:
    print(one_line(line), file=sys.stderr, flush=True)


def _show(line: str) -> None:
    print(line, flush=True)
