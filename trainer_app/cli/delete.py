"""`trainer delete`: remove a run from Kubernetes."""

from __future__ import annotations

from trainer_app.cli.connect import notify
from trainer_app.cli.options import Context, Endpoint, Grace, NamedRun, Namespace
from trainer_app.errors import NotFoundError


def delete(
    run: NamedRun, namespace: Namespace = None, context: Context = None, endpoint: Endpoint = None, grace: Grace = 60.0
) -> None:
    """Stop a run and delete its objects; what it stored stays. Succeeds too if there is no such run."""
    from trainer_app.launch import control, submitted
    from trainer_app.launch.kube import connect

    kube = connect(namespace, context)
    try:
        job = kube.get("RayJob", run)
    except NotFoundError:
        submitted.remove(kube, run)
        notify(f"there is no run {run} in namespace {kube.namespace}")
        return
    control.delete(kube, job, grace=grace, say=notify, endpoint=endpoint)
