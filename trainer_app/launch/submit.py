"""submit = create(render(...)): all objects of a run, or none."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from trainer_app.errors import AlreadyExistsError, InputError, NotFoundError, TrainerError
from trainer_app.launch import helm, location, pods, rayjobs
from trainer_app.launch.kube import Kube, Object
from trainer_app.launch.pack import CodeArchive
from trainer_app.launch.remote_run import Launch, RemoteRun
from trainer_app.redact import remove_secrets
from trainer_app.storage_uri import is_s3_uri

RETAINED_KIND: Final = "PersistentVolumeClaim"  # holds results: never owned by the run, never removed
KEYS: Final = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
Say = Callable[[str], None]


def make_submission(run: str) -> str:
    """Made once, outside the pod. It is KubeRay's job id too."""
    return f"{run}-{secrets.token_hex(3)}"


def submit(
    kube: Kube, release: helm.Release, packed: CodeArchive | None, *, say: Say, endpoint: str | None = None
) -> None:
    """Create a new run: its objects on the cluster, and in its storage what `resume` needs and the user's code.

    Raises:
        TrainerError: the first refusal, of the chart, the cluster or the storage; nothing was created.
    """
    objects = location.load_objects(helm.template(release))
    if (kind := objects[-1]["kind"]) != "RayJob":
        raise InputError(
            f"submit makes runs, and these values make a {kind}; install that with helm, or with: "
            "trainer render ... | kubectl apply -f -"
        )
    check_secret(kube, objects)
    check_admission(kube, objects, say)
    if not _can_open_storage(objects[-1], packed, say):
        create_objects(kube, objects)
        return
    values = remove_secrets(helm.merged_values(release.values, release.sets))
    found = location.location_of_objects(objects)
    with location.storage_access(kube, found, endpoint):
        remote_run = RemoteRun.open(found.uri, release.name)
        remote_run.claim(make_launch(release), release.run_file, values)
        try:
            if packed:
                remote_run.put_code(packed.digest, packed.data)
            create_objects(kube, objects)
        except (TrainerError, KeyboardInterrupt):
            remote_run.undo_claim()
            raise


def make_launch(release: helm.Release) -> Launch:
    chart, app = helm.chart_versions()
    about = release.own_values()["run"]
    return Launch(
        release.name, release.task, release.namespace, release.submission, chart, app, release.code, release.image,
        about.get("user", ""),
    )  # fmt: skip


def create_objects(kube: Kube, objects: Sequence[Object]) -> Object:
    """Create all objects, which the API server accepted in a dry run.

    Returns:
        the RayJob.

    Raises:
        TrainerError: the first refusal; what was created before it is gone again.
    """
    made: list[Object] = []
    try:
        for obj in objects:
            try:
                made.append({**kube.create(obj), "kind": obj["kind"]})
            except AlreadyExistsError:
                if obj["kind"] != RETAINED_KIND:
                    raise
        set_owner(kube, made[-1], made[:-1])
    except (TrainerError, KeyboardInterrupt):
        for obj in reversed(made):
            with suppress(TrainerError):  # the refusal is what counts
                kube.delete(obj["kind"], obj["metadata"]["name"])
        raise
    return made[-1]


def set_owner(kube: Kube, owner: Object, objects: Sequence[Object]) -> None:
    """What goes when the RayJob goes. A Secret of the chart's own goes too; a volume's claim stays, with its data."""
    meta = owner["metadata"]
    reference = {"apiVersion": "ray.io/v1", "kind": owner["kind"], "name": meta["name"], "uid": meta["uid"]}
    for obj in objects:
        if obj["kind"] != RETAINED_KIND:
            kube.patch(obj["kind"], obj["metadata"]["name"], {"metadata": {"ownerReferences": [reference]}})


def check_secret(kube: Kube, objects: Sequence[Object]) -> None:
    """The storage's Secret and its keys. A user who may not read it finds out from the pods.

    Raises:
        InputError: with the command that makes it.
    """
    name = objects[-1]["metadata"].get("annotations", {}).get("trainer/storage-secret")
    if not name or any(obj["kind"] == "Secret" and obj["metadata"]["name"] == name for obj in objects):
        return
    make = f"kubectl create secret generic {name} -n {kube.namespace} " + " ".join(
        f"--from-literal={k}=..." for k in KEYS
    )
    try:
        found = kube.get("Secret", name).get("data") or {}
    except NotFoundError as error:
        raise InputError(f"there is no Secret {name} in {kube.namespace}; make it: {make}") from error
    except TrainerError:
        return
    missing = [key for key in KEYS if key not in found]
    if missing:
        raise InputError(f"Secret {name} in {kube.namespace} has no {' and no '.join(missing)}; make it anew: {make}")


def check_admission(kube: Kube, objects: Sequence[Object], say: Say) -> None:
    """A dry run of all objects, the run first; says so if the cluster would not keep what policies select pods by."""
    for obj in reversed(objects):
        try:
            back = kube.create(obj, dry_run=True)
        except AlreadyExistsError:
            if obj["kind"] != RETAINED_KIND:
                raise
            continue
        if obj["kind"] in location.RAY_KINDS and drops_labels(back):
            say(
                "warning: this cluster's KubeRay CRDs drop the labels of pods, so the run's NetworkPolicy selects "
                "none; see: trainer doctor"
            )


def drops_labels(owner: Object) -> bool:
    """Whether the run's label reaches neither way to its pods: in the template, or in the group's own labels."""
    head = rayjobs.cluster_spec(owner).get("headGroupSpec")
    if not head:
        return False
    kept = {**head["template"].get("metadata", {}).get("labels", {}), **head.get("labels", {})}
    return pods.RUN_LABEL not in kept


def _can_open_storage(rayjob: Object, packed: CodeArchive | None, say: Say) -> bool:
    """Whether this machine can write to the run's storage: a volume it can't."""
    uri = location.location_of(rayjob).uri
    if is_s3_uri(uri):
        return True
    if packed:
        raise InputError(
            f"--code needs an object storage, and this run's is a volume ({uri}); build it into an --image"
        )
    say(f"the storage is a volume ({uri}): trainer resume will work while the RayJob is there, not after")
    return False
