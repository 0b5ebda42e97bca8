"""Runs that nobody will end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer_app.errors import NotFoundError
from trainer_app.run import abandoned
from trainer_app.storage_uri import join_uri

if TYPE_CHECKING:
    from trainer_app.api.run import Run


def why_lost(run: Run) -> str:
    """Return why a run that its storage does not call ended never will be; "" as long as somebody may end it."""
    if run.cluster is None:
        return "its process is gone: resume it" if abandoned.is_abandoned(join_uri(run.uri, run.name)) else ""
    from trainer_app.launch import rayjobs

    try:
        rayjob = run.cluster.kube.get("RayJob", run.name)
    except NotFoundError:
        return "its objects are gone from the cluster"
    return rayjobs.format_state(rayjob) if rayjobs.has_ended(rayjob) and not rayjobs.is_queued(rayjob) else ""
