"""Find runs in a storage, or in a namespace of a cluster."""

from __future__ import annotations

from pathlib import Path

from trainer_app.api.run import ClusterSide, Run
from trainer_app.errors import InputError
from trainer_app.results import list_runs, newest_run, read_outcome, resolve_run
from trainer_app.storage import open_store


def runs(storage: str | Path | None = None) -> list[Run]:
    """Return the runs of a storage, newest first, damaged ones last.

    Args:
        storage: a folder or an s3:// URI; None is that of TRAINER_STORAGE_URI, or the folder `runs`.

    Raises:
        StorageError: the storage gives no answer.
    """
    uri, _ = resolve_run(None, str(storage) if storage is not None else None)
    return [Run(uri, summary.name) for summary in list_runs(uri)]


def load_run(
    run: str | Path | None = None,
    storage: str | Path | None = None,
    *,
    namespace: str | None = None,
    context: str | None = None,
    endpoint: str | None = None,
) -> Run:
    """Return a run that exists.

    Args:
        run: its name, or its path or URI with a slash in it; None for the newest.
        storage: as for `runs`.
        namespace: of a run on Kubernetes; its storage is the one it was submitted with.
        context: of the kubeconfig, with `namespace`; None for the current one.
        endpoint: the S3 server's URL as this machine reaches it, with `namespace`.

    Raises:
        NotFoundError: there is none; the message has the most similar names.
        InputError: arguments that exclude each other.
    """
    if namespace is None and (context is not None or endpoint is not None):
        raise InputError("load_run: context and endpoint are of a run on Kubernetes: give its namespace too")
    if namespace is not None and storage is not None:
        raise InputError("load_run: a run on Kubernetes has its own storage: leave out storage or namespace")
    if namespace is not None:
        return _submitted(None if run is None else str(run), namespace, context, endpoint)
    uri, name = resolve_run(None if run is None else str(run), None if storage is None else str(storage))
    found = Run(uri, name or newest_run(uri))
    read_outcome(open_store(uri), found.name)
    return found


def _submitted(run: str | None, namespace: str, context: str | None, endpoint: str | None) -> Run:
    from trainer_app.launch import location
    from trainer_app.launch.kube import connect

    kube = connect(namespace, context)
    where = location.location_of(location.find_rayjob(kube, run))
    return Run(where.uri, where.run, ClusterSide(kube, endpoint))
