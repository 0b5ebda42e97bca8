"""submit = create(render(...)): all objects of a run, or none."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from ruamel.yaml import YAML

from trainer_app.errors import InputError, NotFound, TrainerError
from trainer_app.launch.kube import Kube, Object

OWNER: Final = "RayJob"  # when it goes, the cluster's garbage collection takes the rest
KEYS: Final = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


def new_submission(run: str) -> str:
    """Made once, outside the pod. It is KubeRay's job id too."""
    return f"{run}-{secrets.token_hex(3)}"


def objects(text: str) -> list[Object]:
    """Of rendered YAML, in the order of creation: the RayJob last, since the operator acts on it at once."""
    found = [thing for thing in YAML(typ="safe", pure=True).load_all(text) if thing]
    return sorted(found, key=lambda thing: thing["kind"] == OWNER)


def create(kube: Kube, things: Sequence[Object]) -> Object:
    """Create all objects, after the API server accepted all of them in a dry run.

    Returns:
        the RayJob.

    Raises:
        TrainerError: the first refusal; what was created before it is gone again.
    """
    check_secret(kube, things[-1])
    for thing in things:
        kube.create(thing, dry_run=True)
    made: list[Object] = []
    try:
        for thing in things:
            made.append({**kube.create(thing), "kind": thing["kind"]})  # noqa: PERF401 - what was made before an error counts
        own(kube, made[-1], made[:-1])
    except (TrainerError, KeyboardInterrupt):
        for thing in reversed(made):
            with suppress(TrainerError):  # the refusal is what counts
                kube.delete(thing["kind"], thing["metadata"]["name"])
        raise
    return made[-1]


def own(kube: Kube, owner: Object, things: Sequence[Object]) -> None:
    """What goes when the RayJob goes."""
    meta = owner["metadata"]
    reference = {"apiVersion": "ray.io/v1", "kind": OWNER, "name": meta["name"], "uid": meta["uid"]}
    for thing in things:
        kube.patch(thing["kind"], thing["metadata"]["name"], {"metadata": {"ownerReferences": [reference]}})


def check_secret(kube: Kube, rayjob: Object) -> None:
    """The storage's Secret and its keys. A user who may not read it finds out from the pods.

    Raises:
        InputError: with the command that makes it.
    """
    name = rayjob["metadata"].get("annotations", {}).get("trainer/storage-secret")
    if not name:
        return
    make = f"kubectl create secret generic {name} -n {kube.namespace} " + " ".join(
        f"--from-literal={k}=..." for k in KEYS
    )
    try:
        found = kube.get("Secret", name).get("data") or {}
    except NotFound as error:
        raise InputError(f"there is no Secret {name} in {kube.namespace}; make it: {make}") from error
    except TrainerError:
        return
    missing = [key for key in KEYS if key not in found]
    if missing:
        raise InputError(f"Secret {name} in {kube.namespace} has no {' and no '.join(missing)}; make it anew: {make}")
