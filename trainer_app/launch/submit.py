"""submit = create(render(...)): all objects of a run, or none."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final

from trainer_app.errors import AlreadyExistsError, InputError, NotFoundError, TrainerError
from trainer_app.launch import helm, location, manifests, pods, rayjobs, submitted
from trainer_app.launch.kube import Kube, Object
from trainer_app.launch.pack import CodeArchive
from trainer_app.launch.remote_run import Launch, RemoteRun, Submission
from trainer_app.launch.rights import CREATED_OWNED, PARALLEL
from trainer_app.launch.variables import run_variables
from trainer_app.redact import remove_secrets
from trainer_app.storage_uri import is_s3_uri

UNCHECKED_KIND: Final = "RoleBinding"  # the API server looks up its Role, which a dry run does not create
RETAINED_KIND: Final = "PersistentVolumeClaim"  # holds results: never owned by the run, never removed
Say = Callable[[str], None]


def make_submission(run: str) -> str:
    """Return a new submission's id, which is also the Ray job's: made once, outside the cluster."""
    return f"{run}-{secrets.token_hex(3)}"


def submit(
    kube: Kube, release: helm.Release, packed: CodeArchive | None, *, say: Say, endpoint: str | None = None
) -> None:
    """Create a new run: its objects on the cluster, and in its storage what `resume` needs and the user's code.

    Args:
        packed: the user's code; None if it is in the image.
        say: called with each line for the user.
        endpoint: the storage's address from this machine; None for the pods' own, a Service's by a port-forward.

    Raises:
        TrainerError: the chart, the cluster or the storage refuses it; nothing was created.
    """
    objects = manifests.load_objects(helm.template(release))
    if (kind := objects[-1]["kind"]) != "RayJob":
        raise InputError(
            f"submit creates a RayJob, but these values make a {kind}; install that with helm, or with: "
            "trainer render ... | kubectl apply -f -"
        )
    check_secret(kube, objects)
    check_admission(kube, objects, say)
    if not _can_open_storage(objects[-1], packed, say):
        create_objects(kube, objects)
        return
    own_values = helm.merged_values(release.values, release.sets)
    launch, values = make_launch(release, own_values), remove_secrets(own_values)
    run_location = location.location_of_objects(objects)
    with location.storage_access(kube, run_location, endpoint):
        remote_run = RemoteRun.open(run_location.uri, release.name)
        remote_run.claim(launch, release.run_file, values)
        try:
            if packed:
                remote_run.put_code(packed.digest, packed.data)
            create_objects(kube, objects)
        except (TrainerError, KeyboardInterrupt):
            remote_run.undo_claim()
            raise
    keep_submission(kube, Submission(launch, release.run_file, values), objects, say)


def keep_submission(kube: Kube, submission: Submission, objects: Sequence[Object], say: Say) -> None:
    """Keep in the cluster what a run is created with, so that `resume` need not believe its storage.

    Args:
        say: called with a line if the cluster refuses it, which is no failure of the run.
    """
    try:
        where = location.location_of(objects[-1])
        settings = submitted.StorageSettings(where.uri, where.endpoint, where.region, where.secret)
        submitted.write(kube, submission, settings)
    except TrainerError as error:
        say(f"trainer resume will need the values of this run again (-f FILE): {error}")


def make_launch(release: helm.Release, values: Mapping[str, Any]) -> Launch:
    """Return what is kept of a release, to create its run again; `values` are the user's, merged."""
    chart, app = helm.chart_versions()
    names = (release.name, release.task, release.namespace, release.submission)
    variables = tuple(dict.fromkeys((*run_variables(values), *release.env)))
    return Launch(*names, chart, app, release.code, release.image, release.user, env=variables)


def create_objects(kube: Kube, objects: Sequence[Object]) -> Object:
    """Create all objects; return the RayJob. If one is refused, delete those before it and raise TrainerError."""
    created: list[Object] = []
    try:
        for obj in (obj for obj in objects if obj["kind"] not in CREATED_OWNED):
            try:
                created.append({**kube.create(obj), "kind": obj["kind"]})
            except AlreadyExistsError:
                if obj["kind"] != RETAINED_KIND:
                    raise
        rayjob = created[-1]
        set_owner(kube, rayjob, created[:-1])
        for obj in (obj for obj in objects if obj["kind"] in CREATED_OWNED):
            kube.create({**obj, "metadata": {**obj["metadata"], "ownerReferences": [owner_reference(rayjob)]}})
    except (TrainerError, KeyboardInterrupt):
        for obj in reversed(created):
            with suppress(TrainerError):  # the refusal is what counts
                kube.delete(obj["kind"], obj["metadata"]["name"])
        raise
    return rayjob


def set_owner(kube: Kube, owner: Object, objects: Sequence[Object]) -> None:
    """Make the objects be deleted with the RayJob, the chart's Secret too; a volume's claim stays, with its data.

    Args:
        owner: the RayJob, as the API server returned it: its uid is needed.
    """
    change = {"metadata": {"ownerReferences": [owner_reference(owner)]}}
    owned = [obj for obj in objects if obj["kind"] != RETAINED_KIND]
    with ThreadPoolExecutor(PARALLEL) as pool:
        list(pool.map(lambda obj: kube.patch(obj["kind"], obj["metadata"]["name"], change), owned))


def owner_reference(owner: Object) -> Object:
    """Return an object's `ownerReferences` entry for an owner that the API server returned."""
    meta = owner["metadata"]
    return {"apiVersion": "ray.io/v1", "kind": owner["kind"], "name": meta["name"], "uid": meta["uid"]}


def check_secret(kube: Kube, objects: Sequence[Object]) -> None:
    """Check that the storage's Secret exists and has both keys, if this user may read it.

    Raises:
        InputError: it or a key is missing; the message has the command that creates it.
    """
    name = objects[-1]["metadata"].get("annotations", {}).get("trainer/storage-secret")
    if not name or any(obj["kind"] == "Secret" and obj["metadata"]["name"] == name for obj in objects):
        return
    literals = " ".join(f"--from-literal={key}=..." for key in location.KEYS)
    remedy = f"kubectl create secret generic {name} -n {kube.namespace} {literals}"
    try:
        data = kube.get("Secret", name).get("data") or {}
    except NotFoundError as error:
        raise InputError(f"there is no Secret {name} in {kube.namespace}; create it: {remedy}") from error
    except TrainerError:  # this user may not read it
        return
    missing = [key for key in location.KEYS if key not in data]
    if missing:
        raise InputError(f"Secret {name} in {kube.namespace} has no {' and no '.join(missing)}; recreate it: {remedy}")


def check_admission(kube: Kube, objects: Sequence[Object], say: Say) -> None:
    """Create all objects in a dry run, the RayJob first; raise TrainerError if the cluster refuses one.

    Args:
        say: called with a warning if the cluster drops labels that policies select by.
    """
    first, *others = (obj for obj in reversed(objects) if obj["kind"] != UNCHECKED_KIND)
    created = _dry_run(kube, first)
    with ThreadPoolExecutor(PARALLEL) as pool:
        list(pool.map(lambda obj: _dry_run(kube, obj), others))
    if first["kind"] in manifests.RAY_KINDS and created and drops_labels(created):
        say(
            "warning: this cluster's KubeRay CRDs drop the labels of pods, so that the run's NetworkPolicy selects "
            "none; see: trainer doctor"
        )


def _dry_run(kube: Kube, obj: Object) -> Object | None:
    """Return the object as it would be created; None for a volume's claim that is there already."""
    try:
        return kube.create(obj, dry_run=True)
    except AlreadyExistsError:
        if obj["kind"] != RETAINED_KIND:
            raise
        return None


def drops_labels(owner: Object) -> bool:
    """Return whether the run's label is missing both in the pods' template and in the group's labels."""
    head = rayjobs.cluster_spec(owner).get("headGroupSpec")
    if not head:
        return False
    labels = {**head["template"].get("metadata", {}).get("labels", {}), **head.get("labels", {})}
    return pods.RUN_LABEL not in labels


def _can_open_storage(rayjob: Object, packed: CodeArchive | None, say: Say) -> bool:
    """Return whether this machine can write to the run's storage: no volume. Raises InputError if --code needs it."""
    uri = location.location_of(rayjob).uri
    if is_s3_uri(uri):
        return True
    if packed:
        raise InputError(f"--code needs S3, and this run's storage is a volume ({uri}); build it into an --image")
    say(f"the storage is a volume ({uri}): trainer resume will only work while the RayJob exists")
    return False
