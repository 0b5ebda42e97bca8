"""`trainer wait`: until a run on Kubernetes ends."""

from __future__ import annotations

from trainer_app.cli.connect import connect_run, notify
from trainer_app.cli.options import Context, Endpoint, Namespace, RemoteRun


def wait(run: RemoteRun = None, namespace: Namespace = None, context: Context = None, endpoint: Endpoint = None) -> int:
    """Wait until a run ends. Exit codes: 0 SUCCEEDED, 1 FAILED, 130 STOPPED."""
    from trainer_app.launch import status
    from trainer_app.launch.follow import follow_run

    kube, job = connect_run(run, namespace, context)
    name = job["metadata"]["name"]
    code = follow_run(kube, name, say=notify, show=None)
    if code == 1:  # the run's own error: the operator's says only that a process ended
        notify(f"error: {status.get_status(kube, kube.get('RayJob', name), endpoint=endpoint).error}")
    return code
