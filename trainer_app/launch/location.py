"""Where a submitted run keeps its results, and how to reach that from outside the cluster."""

from __future__ import annotations

import base64
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from ruamel.yaml import YAML

from trainer_app import machine
from trainer_app.errors import AccessDeniedError, InputError, NotFoundError, StorageError, TrainerError
from trainer_app.launch import cron, helm
from trainer_app.launch.kube import Kube, Object
from trainer_app.launch.pods import RUN_LABEL
from trainer_app.launch.tunnel import forward_port, parse_service
from trainer_app.records.names import hint

RAY_KINDS: Final = ("RayJob", "RayCronJob", "RayCluster")
USER_ANNOTATION: Final = "trainer/user"
CONNECT_S: Final = 3.0
_PORTS: Final = {"https": 443, "http": 80}


@dataclass(frozen=True)
class RunLocation:
    """A run's storage, as the chart wrote it on the RayJob, or in its pods. Empty texts: not given there."""

    run: str
    uri: str
    endpoint: str
    region: str
    secret: str
    keys: tuple[tuple[str, str], ...] = field(default=(), repr=False)  # of a Secret that is about to be created


def location_of(rayjob: Object) -> RunLocation:
    meta = rayjob["metadata"]
    if cron.is_scheduled(rayjob):
        return RunLocation(meta["name"], *cron.storage_settings(rayjob))
    notes = meta.get("annotations", {})
    given = (notes.get(f"trainer/storage-{key}", "") for key in ("uri", "endpoint", "region", "secret"))
    return RunLocation(meta.get("labels", {}).get(RUN_LABEL, meta["name"]), *given)


def task_of(rayjob: Object) -> str:
    """train, tune, or "" where nothing says it."""
    return rayjob["metadata"].get("annotations", {}).get("trainer/task") or cron.entrypoint_task(rayjob)


def location_of_objects(objects: Sequence[Object]) -> RunLocation:
    """Of a run that is about to be created, with the keys of the chart's own Secret, if it makes one."""
    found = location_of(objects[-1])
    own = next((obj for obj in objects if obj["kind"] == "Secret"), {})
    return replace(found, keys=tuple(own.get("stringData", {}).items()))


def find_location(kube: Kube, run: str | None) -> RunLocation:
    """Of a run, or of this user's newest in the namespace. Raises NotFoundError, with what there is."""
    return location_of(find_rayjob(kube, run))


def find_rayjob(kube: Kube, run: str | None) -> Object:
    """The RayJob of a run, or of this user's newest in the namespace.

    Raises:
        NotFoundError: with what there is.
    """
    if run:
        return _get_rayjob(kube, run)
    found = list_rayjobs(kube)
    user = kube.user()
    mine = [one for one in found if one["metadata"].get("annotations", {}).get(USER_ANNOTATION) == user]
    if mine:
        return mine[0]
    if found:
        raise NotFoundError(
            f"user {user} submitted none of the {len(found)} runs in namespace {kube.namespace}; name one: "
            f"trainer list -n {kube.namespace}"
        )
    raise NotFoundError(f"there are no runs in namespace {kube.namespace}; start one with trainer submit")


def list_rayjobs(kube: Kube) -> list[Object]:
    """The RayJobs of runs, newest first: those that were submitted, and those that a timetable fired."""
    every = kube.list("RayJob")
    found = [one for one in every if RUN_LABEL in one["metadata"].get("labels", {}) or cron.is_scheduled(one)]
    return sorted(found, key=lambda one: one["metadata"]["creationTimestamp"], reverse=True)


def _get_rayjob(kube: Kube, run: str) -> Object:
    try:
        return kube.get("RayJob", run)
    except NotFoundError as error:
        near = hint(run, [one["metadata"]["name"] for one in list_rayjobs(kube)], what="runs")
        raise NotFoundError(
            f"there is no run {run} in namespace {kube.namespace}; {near}; where its storage is, "
            "results, logs and resume learn from --values FILE"
        ) from error


def locate_run(kube: Kube, run: str, values: Sequence[str], sets: Sequence[str]) -> RunLocation:
    """Of a run whose RayJob may be gone: then from the values it was submitted with, else from the newest other run.

    Raises:
        NotFoundError: nothing says where the storage is.
    """
    if values or sets:
        return replace(locate_by_values(kube, values, sets), run=run)
    found = list_rayjobs(kube)
    known = [one for one in found if one["metadata"]["name"] == run] or found
    if not known:
        raise NotFoundError(
            f"there is no run {run} in namespace {kube.namespace}, and no other that says where runs are stored; "
            "give the values it was submitted with: --values FILE"
        )
    return replace(location_of(known[0]), run=run)


def locate_by_values(kube: Kube, values: Sequence[str], sets: Sequence[str]) -> RunLocation:
    """Where the chart would have a run stored with these values."""
    return location_of(render_sample(kube, values, sets)[-1])


def render_sample(kube: Kube, values: Sequence[str], sets: Sequence[str], name: str = "sample") -> list[Object]:
    """The objects of a run that asks for nothing; last the RayJob, or what these values make in its place."""
    stays = helm.merged_values(values, sets).get("kind") == "RayCluster"
    release = helm.Release(name, kube.namespace, "train", "" if stays else "name: sample\n", name, values, sets)
    return load_objects(helm.template(release))


def load_objects(text: str) -> list[Object]:
    """Of rendered YAML, in the order of creation: the RayJob last, since the operator acts on it at once."""
    found = [obj for obj in YAML(typ="safe", pure=True).load_all(text) if obj]
    return sorted(found, key=lambda obj: obj["kind"] in RAY_KINDS)


@contextmanager
def storage_access(kube: Kube, location: RunLocation, endpoint: str | None = None) -> Iterator[None]:
    """Inside, this process opens `place.uri` as a pod does: with its endpoint, region and keys.

    Args:
        endpoint: where this machine reaches the storage; without it a Service is reached through a port-forward.

    Raises:
        InputError: a volume, which only pods reach. StorageError: nothing answers at the endpoint.
    """
    if not location.uri:
        raise InputError(
            f"where run {location.run} is stored stands in its run file alone (storage.uri); "
            f"look there: trainer results {location.run} --storage URI"
        )
    if "://" not in location.uri:
        raise InputError(
            f"run {location.run} is stored in a volume ({location.uri}), which this machine does not reach; "
            f"look at it from a pod: kubectl exec -n {kube.namespace} ... -- trainer results {location.run}"
        )
    given = dict(location.keys) or read_storage_keys(kube, location.secret)
    wanted = {"AWS_REGION": location.region, **given}
    service = None if endpoint else parse_service(location.endpoint)
    with ExitStack() as stack:
        url = endpoint or location.endpoint
        if service:
            port = stack.enter_context(forward_port(kube, *service))
            url = f"{location.endpoint.partition('://')[0]}://127.0.0.1:{port}"
        else:
            check_endpoint(url)
        given_here = {name: value for name, value in {**wanted, "AWS_ENDPOINT_URL": url}.items() if value}
        stack.enter_context(machine.temporary_environment(given_here))
        stack.enter_context(_errors_name_values(kube, location, from_secret=bool(given)))
        yield


@contextmanager
def _errors_name_values(kube: Kube, location: RunLocation, *, from_secret: bool) -> Iterator[None]:
    """The storage's errors speak of the environment and of run files; here a Secret and values are what is wrong."""
    try:
        yield
    except AccessDeniedError as error:
        if not from_secret:
            words = (
                f"this user may not read Secret {location.secret} in {kube.namespace}, so the environment's keys count"
            )
            raise AccessDeniedError(f"{error}; {words}" if location.secret else str(error)) from error
        said = str(error).partition(";")[0]
        raise AccessDeniedError(
            f"{said}; the keys are those of Secret {location.secret} in {kube.namespace}: correct them there, name "
            "another in storage.existingSecret, or correct storage.bucket (keys of one bucket are denied all others)"
        ) from error
    except NotFoundError as error:
        if "there is no bucket" not in str(error):
            raise
        said = str(error).partition(";")[0]
        raise NotFoundError(f"{said}; create it, or correct storage.bucket in the values") from error


def check_endpoint(endpoint: str) -> None:
    """A connection, before boto3 tries its own three times: 3 s in place of 15.

    Raises:
        StorageError: with what to do.
    """
    parts = urlsplit(endpoint)
    if not parts.hostname or (getproxies().get(parts.scheme) and not proxy_bypass(parts.hostname)):
        return
    try:
        socket.create_connection((parts.hostname, parts.port or _PORTS.get(parts.scheme, 80)), CONNECT_S).close()
    except OSError as error:
        raise StorageError(
            f"the storage's endpoint {endpoint} does not answer from here ({error}); correct storage.endpoint, or give "
            "the address as this machine reaches it: --endpoint URL"
        ) from error


def read_storage_keys(kube: Kube, secret: str) -> dict[str, str]:
    """The storage's keys, if this user may read them; else those of this user's environment count."""
    if not secret:
        return {}
    try:
        data = kube.get("Secret", secret).get("data") or {}
    except TrainerError:
        return {}
    return {name: base64.b64decode(value).decode() for name, value in data.items() if name.startswith("AWS_")}
