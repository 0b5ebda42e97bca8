"""Where a submitted run keeps its results, and how to reach that from outside the cluster."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Final

from trainer_app import machine
from trainer_app.errors import AccessDeniedError, InputError, NotFoundError, TrainerError
from trainer_app.launch import cron, helm, submitted
from trainer_app.launch.endpoint import check_answers, check_named
from trainer_app.launch.kube import Kube, Object
from trainer_app.launch.manifests import load_objects
from trainer_app.launch.pods import RUN_LABEL
from trainer_app.launch.submitted import USER
from trainer_app.launch.tunnel import forward_port, parse_service
from trainer_app.records.names import suggest_name
from trainer_app.storage_uri import StorageUriError, check_endpoint, is_s3_uri

KEYS: Final = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
_WITH_KEYS: Final = ("AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL")


@dataclass(frozen=True)
class RunLocation:
    """A run's storage, as the chart wrote it on the RayJob, or in its pods; "" for what is not set there.

    `own`: the user's values say so, and not a RayJob, which any user of the namespace may have created.
    """

    run: str
    uri: str
    endpoint: str
    region: str
    secret: str
    keys: tuple[tuple[str, str], ...] = field(default=(), repr=False)  # of a Secret that is about to be created
    own: bool = False


def location_of(rayjob: Object) -> RunLocation:
    """Return where the run of a RayJob is stored."""
    meta = rayjob["metadata"]
    if cron.is_scheduled(rayjob):
        return RunLocation(meta["name"], *cron.storage_settings(rayjob))
    annotations = meta.get("annotations", {})
    settings = (annotations.get(f"trainer/storage-{key}", "") for key in ("uri", "endpoint", "region", "secret"))
    return RunLocation(meta["name"], *settings)


def task_of(rayjob: Object) -> str:
    """Return train or tune, or "" if neither the annotation nor the entrypoint has it."""
    return rayjob["metadata"].get("annotations", {}).get("trainer/task") or cron.entrypoint_task(rayjob)


def location_of_objects(objects: Sequence[Object]) -> RunLocation:
    """Return where a run that is about to be created will be stored, with the keys of the Secret among its objects."""
    secret = next((obj for obj in objects if obj["kind"] == "Secret"), {})
    return replace(location_of(objects[-1]), keys=tuple(secret.get("stringData", {}).items()), own=True)


def find_rayjob(kube: Kube, run: str | None) -> Object:
    """Return the RayJob of a run; with None that of this user's newest run in the namespace.

    Raises:
        NotFoundError: there is none; the message says how to find the runs that exist.
    """
    if run:
        return _get_rayjob(kube, run)
    rayjobs = list_rayjobs(kube)
    user = kube.user()
    submitted = [one for one in rayjobs if one["metadata"].get("annotations", {}).get(USER) == user]
    if submitted:
        return submitted[0]
    if rayjobs:
        raise NotFoundError(
            f"user {user} submitted none of the {len(rayjobs)} runs in namespace {kube.namespace}; give a run's name: "
            f"trainer list -n {kube.namespace}"
        )
    raise NotFoundError(f"there are no runs in namespace {kube.namespace}; start one with trainer submit")


def list_rayjobs(kube: Kube) -> list[Object]:
    """Return the RayJobs of runs, newest first: those that were submitted, and those that a RayCronJob created."""
    rayjobs = [
        one for one in kube.list("RayJob") if RUN_LABEL in one["metadata"].get("labels", {}) or cron.is_scheduled(one)
    ]
    return sorted(rayjobs, key=lambda one: one["metadata"]["creationTimestamp"], reverse=True)


def _get_rayjob(kube: Kube, run: str) -> Object:
    try:
        return kube.get("RayJob", run)
    except NotFoundError as error:
        similar = suggest_name(run, [one["metadata"]["name"] for one in list_rayjobs(kube)], what="runs")
        raise NotFoundError(
            f"there is no run {run} in namespace {kube.namespace}; {similar}; if it was deleted, results, logs and "
            "resume find its storage with --values FILE"
        ) from error


def locate_run(kube: Kube, run: str, values: Sequence[str], sets: Sequence[str]) -> RunLocation:
    """Return where a run is stored, with or without its RayJob.

    Args:
        values, sets: those it was submitted with; without them the ConfigMap of this user's submission says it, or
            its RayJob, or that of the newest run.

    Raises:
        NotFoundError: there are no values and no RayJob of any run.
    """
    if values or sets:
        return replace(location_of(render_sample(kube, values, sets)[-1]), run=run, own=True)
    if settings := submitted.read_storage(kube, run):
        return RunLocation(run, **asdict(settings), own=True)
    rayjobs = list_rayjobs(kube)
    candidates = [one for one in rayjobs if one["metadata"]["name"] == run] or rayjobs
    if not candidates:
        raise NotFoundError(
            f"there is no run {run} in namespace {kube.namespace}, and no other run that shows where runs are stored; "
            "give the values it was submitted with: --values FILE"
        )
    return replace(location_of(candidates[0]), run=run)


def render_sample(kube: Kube, values: Sequence[str], sets: Sequence[str], name: str = "sample") -> list[Object]:
    """Return the objects of a run with an empty run file; last the RayJob, or the kind these values make instead.

    Args:
        values: values files, later ones over earlier ones.
        sets: dotted values (KEY=VALUE), over the files.
        name: the run's name.
    """
    is_cluster = helm.merged_values(values, sets).get("kind") == "RayCluster"
    release = helm.Release(name, kube.namespace, "train", "" if is_cluster else "name: sample\n", name, values, sets)
    return load_objects(helm.template(release))


@contextmanager
def storage_access(kube: Kube, location: RunLocation, endpoint: str | None = None) -> Iterator[None]:
    """Set this process's environment so that it opens `location.uri` as a pod does: endpoint, region and keys.

    Args:
        endpoint: the storage's address from this machine; without it a Service is reached through a port-forward.

    Raises:
        InputError: the storage is a volume, which only pods reach, or unknown, or nobody trusted names its endpoint.
        StorageError: nothing answers at the endpoint.
    """
    if not location.uri:
        raise InputError(
            f"only the run file of run {location.run} says where it is stored (storage.uri); "
            f"give that URI: trainer results {location.run} --storage URI"
        )
    if not is_s3_uri(location.uri):
        raise InputError(
            f"run {location.run} is stored in a volume ({location.uri}), which this machine does not reach; "
            f"read it from a pod: kubectl exec -n {kube.namespace} ... -- trainer results {location.run}"
        )
    _check_settings(location)
    keys = dict(location.keys) or read_storage_keys(kube, location.secret)
    if not location.own:
        named = (endpoint, keys.get("AWS_ENDPOINT_URL"))
        annotated = "" if endpoint else location.endpoint
        check_named(kube, location.run, location.uri, annotated, location.secret, named=named)
    service = None if endpoint else parse_service(location.endpoint)
    with ExitStack() as stack:
        url = endpoint or location.endpoint
        if service:
            port = stack.enter_context(forward_port(kube, *service))
            url = f"{location.endpoint.partition('://')[0]}://127.0.0.1:{port}"
        else:
            check_answers(url)
        settings = {"AWS_REGION": location.region, **keys, "AWS_ENDPOINT_URL": url}
        environment = {name: value for name, value in settings.items() if value}
        stack.enter_context(machine.temporary_environment(environment))
        stack.enter_context(_errors_name_values(kube, location, from_secret=bool(keys)))
        yield


def _check_settings(location: RunLocation) -> None:
    """Raise InputError if a RayJob names an endpoint or a region that is none."""
    try:
        if location.endpoint:
            check_endpoint(location.endpoint)
    except StorageUriError as error:
        raise InputError(f"run {location.run}: {error}") from error
    if not re.fullmatch(r"[\w.-]*", location.region):
        raise InputError(f"run {location.run}: {location.region!r} is no region of a storage")


@contextmanager
def _errors_name_values(kube: Kube, location: RunLocation, *, from_secret: bool) -> Iterator[None]:
    """The storage's errors name the environment and the run file; here the Secret and the values are to be changed."""
    try:
        yield
    except AccessDeniedError as error:
        if not from_secret:
            why = f"; the environment's keys were used, since this user may not read Secret {location.secret}"
            raise AccessDeniedError(f"{error}{why if location.secret else ''}") from error
        raise AccessDeniedError(
            f"{str(error).partition(';')[0]}; the keys are those of Secret {location.secret} in {kube.namespace}: "
            "correct them, name another Secret in storage.existingSecret, or correct storage.bucket (keys that are "
            "limited to one bucket are denied all others)"
        ) from error
    except NotFoundError as error:
        if "there is no bucket" not in str(error):
            raise
        problem = str(error).partition(";")[0]
        raise NotFoundError(f"{problem}; create it, or correct storage.bucket in the values") from error


def read_storage_keys(kube: Kube, secret: str) -> dict[str, str]:
    """Return the keys in a Secret, with what belongs to them; none if this user may not read it, or one is missing.

    The environment's are used then. A RayJob may name a Secret that anybody made: no other variable is taken from it,
    and without keys in it an endpoint in it would get requests that this user's keys sign.
    """
    if not secret:
        return {}
    try:
        data = kube.get("Secret", secret).get("data") or {}
    except TrainerError:
        return {}
    if any(name not in data for name in KEYS):
        return {}
    taken = [name for name in (*KEYS, *_WITH_KEYS) if name in data]
    values = {name: base64.b64decode(data[name]).decode(errors="replace") for name in taken}
    if damaged := next((name for name, value in values.items() if "\0" in value), None):
        raise InputError(f"Secret {secret}: {damaged} has a NUL byte; create it again")
    return values
