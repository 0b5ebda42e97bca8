"""Reach the storage of a run on Kubernetes to read what it has written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from trainer_app.errors import NotFoundError
from trainer_app.launch import location
from trainer_app.launch.kube import Kube
from trainer_app.launch.remote_run import RemoteRun


@contextmanager
def submitted_run(
    kube: Kube, run: str | None, endpoint: str | None, values: Sequence[str] | None
) -> Iterator[location.RunLocation]:
    """Reach the storage of a run; yield where the run is in it.

    Args:
        run: its name; None for this user's newest.
        endpoint: the S3 server's URL as this machine reaches it.
        values: that it was submitted with, if its objects are gone.

    Raises:
        NotFoundError: there is no such run, or it has written nothing yet.
    """
    if run and values:
        where = location.locate_run(kube, run, values, ())
    else:
        where = location.location_of(location.find_rayjob(kube, run))
    with location.storage_access(kube, where, endpoint):
        if RemoteRun.open(where.uri, where.run).read_record() is None:
            raise NotFoundError(f"run {where.run} has written nothing yet; see: trainer status {where.run}")
        yield where
