"""What the verbs for runs on Kubernetes share: the cluster, the run's RayJob, and lines for the user."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import typer

from trainer_app.errors import InputError, NotFoundError
from trainer_app.formatting import clean_lines, one_line

if TYPE_CHECKING:
    from trainer_app.launch.kube import Kube, Object


def connect_run(run: str | None, namespace: str | None, context: str | None) -> tuple[Kube, Object]:
    """Return the cluster and the RayJob of a run.

    Args:
        run: its name; None for this user's newest run in the namespace.
        namespace, context: of the kubeconfig; None for the current ones.

    Raises:
        InputError: there is no such context.
        NotFoundError: there is no such run.
    """
    from trainer_app.launch import location
    from trainer_app.launch.kube import connect

    kube = connect(namespace, context)
    return kube, location.find_rayjob(kube, run)


def connect_stored_run(run: str | None, namespace: str | None, context: str | None) -> tuple[Kube, Object | None]:
    """Return the cluster and the RayJob of a run; None for the RayJob if a named run is gone from the cluster.

    Args:
        run: its name; None for this user's newest run in the namespace.
        namespace, context: of the kubeconfig; None for the current ones.

    Raises:
        NotFoundError: no run is named, and this user has none.
    """
    from trainer_app.launch.kube import connect

    try:
        return connect_run(run, namespace, context)
    except NotFoundError:
        if not run:
            raise
        return connect(namespace, context), None


def reads_cluster(
    command: typer.Context, namespace: str | None, context: str | None, storage: str | None, run: str | None = None
) -> bool:
    """Decide whether `results` and `list` read the runs of a namespace, or those of a storage.

    Args:
        namespace, context: as options they ask for the cluster; TRAINER_NAMESPACE counts after TRAINER_STORAGE_URI.
        storage: asks for the storage, and so does a path or URI as `run`.

    Raises:
        InputError: the options ask for both.
    """
    from_environment = getattr(command.get_parameter_source("namespace"), "name", "") == "ENVIRONMENT"
    place = storage or (run if run and ("/" in run or run in (".", "..")) else None)
    if not context and (not namespace or from_environment):
        return bool(namespace) and not place and not os.environ.get("TRAINER_STORAGE_URI")
    if place:
        raise InputError(f"{command.info_name} reads a storage ({place}) or a namespace (-n), not both: name one")
    return True


def notify(line: str) -> None:
    """Print a line for the user on stderr; stdout has only the verb's result."""
    print(one_line(line), file=sys.stderr, flush=True)


def print_line(line: str) -> None:
    """Print a line of a log, at once; a log holds whatever the run's code has printed."""
    print(clean_lines(line), flush=True)
