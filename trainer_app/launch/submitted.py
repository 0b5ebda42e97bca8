"""What a run was submitted with, in the cluster: a ConfigMap that outlives its RayJob.

Every run of a Secret can write to the storage. So what decides about rights is read here, or from the user's values.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Final

from trainer_app.errors import AlreadyExistsError, InputError, NotFoundError, TrainerError
from trainer_app.launch import cron
from trainer_app.launch.kube import Kube, Object
from trainer_app.launch.pods import RUN_LABEL
from trainer_app.launch.remote_run import Submission, parse_submission
from trainer_app.records.plain_json import from_json, to_json

KIND: Final = "ConfigMap"
USER: Final = "trainer/user"  # who created an object; k8s/rbac/policy.yaml lets nobody name another user
APP_LABEL: Final = "app.kubernetes.io/name"
LAUNCH, VALUES, RUN_FILE, STORAGE = "launch.json", "values.json", "run.yaml", "storage.json"


@dataclass(frozen=True)
class StorageSettings:
    """Where a run is stored, as its RayJob's annotations say it too; "" for what is not set."""

    uri: str
    endpoint: str = ""
    region: str = ""
    secret: str = ""


def name_of(run: str) -> str:
    """Return the name of a run's ConfigMap."""
    return f"{run}-submitted"


def write(kube: Kube, submission: Submission, storage: StorageSettings) -> None:
    """Create a run's ConfigMap, or replace that of an earlier submission.

    Args:
        submission: its values are without secrets.
        storage: where the run is stored by those values.

    Raises:
        InputError: a ConfigMap of this name is not the run's. TrainerError: the cluster refuses it.
    """
    launch, run_file, values = submission
    name, notes = name_of(launch.run), {USER: launch.user}
    labels = {APP_LABEL: "trainer", "app.kubernetes.io/managed-by": "trainer", RUN_LABEL: launch.run}
    meta = {"name": name, "labels": labels, "annotations": notes}
    documents = {LAUNCH: asdict(launch), VALUES: values, STORAGE: asdict(storage)}
    data = {RUN_FILE: run_file, **{key: to_json(document).decode() for key, document in documents.items()}}
    try:
        kube.create({"apiVersion": "v1", "kind": KIND, "metadata": meta, "data": data})
    except AlreadyExistsError:
        check_of_run(kube.get(KIND, name), KIND, launch.run)
        kube.patch(KIND, name, {"metadata": {"annotations": notes}, "data": data})


def read(kube: Kube, run: str) -> Submission | None:
    """Return what this user submitted the run with; None if another user did, or nobody by this launcher.

    Raises:
        StorageError: the ConfigMap is damaged.
    """
    data = _own_data(kube, run)
    if data is None:
        return None
    return parse_submission(data, (LAUNCH, RUN_FILE, VALUES), where=f"ConfigMap {name_of(run)}")


def read_storage(kube: Kube, run: str) -> StorageSettings | None:
    """Return where a run is stored that this user submitted; None if that is not known, or may not be read."""
    try:
        document = from_json((_own_data(kube, run) or {})[STORAGE].encode())
        return StorageSettings(**{name: str(document[name]) for name in asdict(StorageSettings(""))})
    except (TrainerError, ValueError, KeyError, TypeError, RecursionError):
        return None


def remove(kube: Kube, run: str) -> None:
    """Delete a run's ConfigMap, if it has one."""
    with suppress(NotFoundError):
        if is_of_run(kube.get(KIND, name_of(run)), KIND, run):
            kube.delete(KIND, name_of(run))


def is_of_run(obj: Object, kind: str, run: str) -> bool:
    """Return whether the chart, this launcher or a RayCronJob of the chart made an object for the run."""
    labels = obj["metadata"].get("labels") or {}
    if kind == "RayJob":  # it has the run's own name
        return labels.get(RUN_LABEL) == run or cron.is_scheduled(obj)
    return labels.get(RUN_LABEL) == run and labels.get(APP_LABEL) == "trainer"


def check_of_run(obj: Object, kind: str, run: str) -> None:
    """Raise InputError if an object of the run's names is another's, which is never changed or deleted."""
    if not is_of_run(obj, kind, run):
        raise InputError(
            f"{kind} {obj['metadata']['name']} exists, and was not made for run {run}: it lacks the labels "
            f"{RUN_LABEL}={run} and {APP_LABEL}=trainer; it was left as it is: rename or delete it yourself"
        )


def _own_data(kube: Kube, run: str) -> dict[str, str] | None:
    try:
        obj = kube.get(KIND, name_of(run))
    except NotFoundError:
        return None
    if not is_of_run(obj, KIND, run) or (obj["metadata"].get("annotations") or {}).get(USER) != kube.user():
        return None
    return dict(obj.get("data") or {})
