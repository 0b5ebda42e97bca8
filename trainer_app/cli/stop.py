"""`trainer stop`: a run on Kubernetes commits a checkpoint and gives its nodes back."""

from __future__ import annotations

from trainer_app.cli.connect import connect_run, notify
from trainer_app.cli.options import Context, Endpoint, Grace, NamedRun, Namespace


def stop(
    run: NamedRun,
    namespace: Namespace = None,
    context: Context = None,
    endpoint: Endpoint = None,
    grace: Grace = 300.0,
) -> None:
    """Let a run commit a checkpoint and give its nodes back; continue it with `trainer resume`. Can be repeated."""
    from trainer_app.launch import control

    kube, job = connect_run(run, namespace, context)
    control.stop(kube, job, grace=grace, say=notify, endpoint=endpoint)
