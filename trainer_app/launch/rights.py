"""The Kubernetes permissions that each verb needs: k8s/rbac/submitter.yaml grants them, `doctor` checks them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

from trainer_app.launch.kube import KINDS, Kube

PARALLEL: Final = 8
# Kinds that no RayJob owns: they hold results, or own the others.
UNOWNED: Final = ("PersistentVolumeClaim", "RayJob", "RayCluster", "RayCronJob")
# Kinds that are created after the RayJob, as its own. So nobody needs the right to change or delete Roles.
CREATED_OWNED: Final = ("Role", "RoleBinding")


class Right(NamedTuple):
    """One permission of Kubernetes; `resource` may have a subresource: pods/log."""

    verb: str
    resource: str
    group: str = ""


def _rights(resource: str, *verbs: str, group: str = "") -> list[Right]:
    return [Right(verb, resource, group) for verb in verbs]


def _rayjobs(*verbs: str) -> list[Right]:
    return _rights("rayjobs", *verbs, group="ray.io")


def rights_to_create(kinds: Iterable[str]) -> list[Right]:
    """Return what creating these kinds needs: create, patch to set the owner, delete if a later one is refused.

    Nobody can grant more than they have: a Role that may patch a RayJob is only created by users who may.
    """
    kinds = list(kinds)
    granted = _rayjobs("patch") if "Role" in kinds else []
    return granted + [
        Right(verb, plural, group.removeprefix("/apis/").partition("/")[0] if group.startswith("/apis/") else "")
        for kind, (group, plural) in ((kind, KINDS[kind]) for kind in kinds)
        for verb in (("create",) if kind in UNOWNED + CREATED_OWNED else ("create", "patch", "delete"))
    ]


def rights_to_recreate(kinds: Iterable[str]) -> list[Right]:
    """Return what creating them again needs: `resume` waits until the former ones are gone."""
    owned = rights_to_create(kind for kind in kinds if kind not in UNOWNED)
    return [*rights_to_create(kinds), *dict.fromkeys(right._replace(verb="get") for right in owned)]


# The objects of every run.
_KINDS: Final = ("RayJob", "ConfigMap", "ServiceAccount", "Service", "NetworkPolicy", "PodDisruptionBudget")
_READ: Final = [*_rayjobs("get", "list"), *_rights("pods", "list"), *_rights("events", "list")]
_WATCH: Final = [*_rayjobs("watch"), *_rights("pods", "watch")]  # without these a run is asked for every second
# The objects that the pod of doctor --in-cluster needs while it runs.
_PROBE: Final = [
    right for right in rights_to_create(("ServiceAccount", "NetworkPolicy", "ConfigMap")) if right.verb != "patch"
]
IN_CLUSTER: Final = "doctor --in-cluster"  # of a Role of its own
VERBS: Final[Mapping[str, list[Right]]] = {
    "submit": [*rights_to_create(_KINDS), *_rayjobs("delete")],
    "status": [*_READ, *_WATCH],
    "logs": [*_READ, *_WATCH, *_rights("pods/log", "get")],
    "list": _rayjobs("list"),
    "wait": [*_READ, *_WATCH],
    "results": _rayjobs("get", "list"),
    "fetch": _rayjobs("get", "list"),
    "stop": [*_READ, *_WATCH, *_rayjobs("patch")],
    "resume": [*_READ, *_WATCH, *rights_to_recreate(_KINDS), *_rayjobs("patch", "delete")],
    "delete": [*_READ, *_WATCH, *_rayjobs("delete"), *_rights("configmaps", "get", "delete")],
    IN_CLUSTER: [*_PROBE, *_rights("pods", "create", "get", "delete"), *_rights("pods/log", "get")],
}
QUEUE_RIGHTS: Final = _rights("workloads", "list", "patch", group="kueue.x-k8s.io")  # to stop and resume with Kueue
READ_SECRET: Final = Right("get", "secrets")  # the storage's; without it the keys of the user's environment are used
# Needed in the namespace of a storage that is a Service of the cluster.
REACH_STORAGE: Final = [*_rights("services", "get"), *_rights("pods", "list"), *_rights("pods/portforward", "get")]


def missing_rights(
    kube: Kube, verbs: Mapping[str, Iterable[Right]], namespace: str | None = None
) -> dict[str, list[Right]]:
    """Return the rights that this user does not have, by verb.

    Args:
        verbs: the rights that each verb needs.
        namespace: where; None for that of `kube`.
    """
    wanted = list(dict.fromkeys(right for rights in verbs.values() for right in rights))
    with ThreadPoolExecutor(PARALLEL) as pool:
        answers = pool.map(lambda right: is_allowed(kube, right, namespace or kube.namespace), wanted)
        denied = {right for right, is_granted in zip(wanted, answers, strict=True) if not is_granted}
    missing = {verb: [right for right in rights if right in denied] for verb, rights in verbs.items()}
    return {verb: rights for verb, rights in missing.items() if rights}


def format_rights(rights: Iterable[Right]) -> str:
    """`create, patch configmaps; get secrets`"""
    verbs_by_resource: dict[str, list[str]] = {}
    for right in dict.fromkeys(rights):
        resource = f"{right.resource}{f'.{right.group}' if right.group else ''}"
        verbs_by_resource.setdefault(resource, []).append(right.verb)
    return "; ".join(f"{', '.join(sorted(verbs))} {resource}" for resource, verbs in verbs_by_resource.items())


def is_allowed(kube: Kube, right: Right, namespace: str, name: str = "") -> bool:
    """Ask the API server whether this user has the right.

    Args:
        name: of one object; "" asks for all objects of the kind.
    """
    attributes = {"namespace": namespace, "verb": right.verb, "group": right.group, "name": name}
    attributes["resource"], _, attributes["subresource"] = right.resource.partition("/")
    path, group = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "authorization.k8s.io/v1"
    body = {"apiVersion": group, "kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": attributes}}
    return bool(kube.request("POST", path, body, what="check this user's permissions")["status"].get("allowed"))
