"""Where a submitted run keeps its results, and how to reach that from outside the cluster."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from trainer_app.errors import NotFound, TrainerError
from trainer_app.launch.kube import Kube, Object
from trainer_app.launch.tunnel import forwarded, service_of

RUN = "trainer/run"


@dataclass(frozen=True)
class Place:
    """A run's storage, as the chart wrote it on the RayJob. Empty texts: not given there."""

    run: str
    uri: str
    endpoint: str
    region: str
    secret: str


def of(rayjob: Object) -> Place:
    meta = rayjob["metadata"]
    notes = meta.get("annotations", {})
    given = (notes.get(f"trainer/storage-{key}", "") for key in ("uri", "endpoint", "region", "secret"))
    return Place(meta["labels"].get(RUN, meta["name"]), *given)


def find(kube: Kube, run: str | None) -> Place:
    """Of a run, or of the newest in the namespace.

    Raises:
        NotFound: with what there is.
    """
    if run:
        return of(kube.get("RayJob", run))
    jobs = [job for job in kube.list("RayJob", labels={}) if RUN in job["metadata"].get("labels", {})]
    if not jobs:
        raise NotFound(f"there are no runs in namespace {kube.namespace}; start one with trainer submit")
    return of(max(jobs, key=lambda job: job["metadata"]["creationTimestamp"]))


@contextmanager
def reachable(kube: Kube, place: Place, endpoint: str | None = None) -> Iterator[None]:
    """Inside, this process opens `place.uri` as a pod does: with its endpoint, region and keys.

    Args:
        endpoint: where this machine reaches the storage; without it a Service is reached through a port-forward.
    """
    wanted = {"AWS_REGION": place.region, **_keys(kube, place.secret)}
    service = None if endpoint else service_of(place.endpoint)
    if service is None:
        with _environment({**wanted, "AWS_ENDPOINT_URL": endpoint or place.endpoint}):
            yield
        return
    with (
        forwarded(kube, *service) as port,
        _environment({**wanted, "AWS_ENDPOINT_URL": f"{place.endpoint.partition('://')[0]}://127.0.0.1:{port}"}),
    ):
        yield


def _keys(kube: Kube, secret: str) -> dict[str, str]:
    """The storage's keys, if this user may read them; else those of this user's environment count."""
    if not secret:
        return {}
    try:
        data = kube.get("Secret", secret).get("data") or {}
    except TrainerError:
        return {}
    return {name: base64.b64decode(value).decode() for name, value in data.items() if name.startswith("AWS_")}


@contextmanager
def _environment(wanted: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update({name: value for name, value in wanted.items() if value})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
