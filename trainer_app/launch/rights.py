"""What each verb needs to be allowed to do: k8s/rbac/submitter.yaml grants it, `doctor` asks for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

from trainer_app.launch.kube import KINDS, Kube

PARALLEL: Final = 8
# Made, and handed to no RayJob: they hold results, or own the others.
UNOWNED: Final = ("PersistentVolumeClaim", "RayJob", "RayCluster", "RayCronJob")


class Right(NamedTuple):
    """`resource` may have a subresource: pods/log."""

    verb: str
    resource: str
    group: str = ""


def _rights(resource: str, *verbs: str, group: str = "") -> list[Right]:
    return [Right(verb, resource, group) for verb in verbs]


def _rayjobs(*verbs: str) -> list[Right]:
    return _rights("rayjobs", *verbs, group="ray.io")


def rights_to_create(kinds: Iterable[str]) -> list[Right]:
    """What making these kinds needs: created, handed to the RayJob, and taken back if a later one is refused.

    What stays or owns the others (a volume's claim, the RayJob itself) is handed to nobody.
    """
    return [
        Right(verb, plural, group.removeprefix("/apis/").partition("/")[0] if group.startswith("/apis/") else "")
        for kind, (group, plural) in ((kind, KINDS[kind]) for kind in kinds)
        for verb in (("create",) if kind in UNOWNED else ("create", "patch", "delete"))
    ]


def rights_to_recreate(kinds: Iterable[str]) -> list[Right]:
    """What making them a second time needs: `resume` first waits until the former ones are gone."""
    found = rights_to_create(kind for kind in kinds if kind not in UNOWNED)
    return [*rights_to_create(kinds), *dict.fromkeys(right._replace(verb="get") for right in found)]


# What every run is made of.
_KINDS: Final = ("RayJob", "ConfigMap", "ServiceAccount", "Service", "NetworkPolicy", "PodDisruptionBudget")
_READ: Final = [*_rayjobs("get", "list"), *_rights("pods", "list"), *_rights("events", "list")]
# What the pod of doctor --in-cluster stands on, for a moment.
_PROBE: Final = [
    right for right in rights_to_create(("ServiceAccount", "NetworkPolicy", "ConfigMap")) if right.verb != "patch"
]
VERBS: Final[Mapping[str, list[Right]]] = {
    "submit": [*rights_to_create(_KINDS), *_rayjobs("delete")],
    "status": _READ,
    "logs": [*_READ, *_rights("pods/log", "get")],
    "list": _rayjobs("list"),
    "wait": _READ,
    "results": _rayjobs("get", "list"),
    "stop": [*_READ, *_rayjobs("patch")],
    "resume": [*_READ, *rights_to_recreate(_KINDS), *_rayjobs("patch", "delete")],
    "delete": [*_READ, *_rayjobs("delete")],
    "doctor --in-cluster": [*_PROBE, *_rights("pods", "create", "get", "delete"), *_rights("pods/log", "get")],
}
# Of stop and resume, for runs that Kueue admits.
QUEUE_RIGHTS: Final = _rights("workloads", "list", "patch", group="kueue.x-k8s.io")
# The storage's own Secret; without it the keys of the person's environment count.
READ_SECRET: Final = Right("get", "secrets")
# In the namespace of a storage that is a Service of the cluster.
REACH_STORAGE: Final = [*_rights("services", "get"), *_rights("pods", "list"), *_rights("pods/portforward", "get")]


def missing_rights(
    kube: Kube, verbs: Mapping[str, Iterable[Right]], namespace: str | None = None
) -> dict[str, list[Right]]:
    """The rights that this user has not, by verb, in the namespace."""
    wanted = list(dict.fromkeys(right for rights in verbs.values() for right in rights))
    with ThreadPoolExecutor(PARALLEL) as pool:
        answers = pool.map(lambda right: is_allowed(kube, right, namespace or kube.namespace), wanted)
        denied = {right for right, yes in zip(wanted, answers, strict=True) if not yes}
    found = {verb: [right for right in rights if right in denied] for verb, rights in verbs.items()}
    return {verb: rights for verb, rights in found.items() if rights}


def format_rights(rights: Iterable[Right]) -> str:
    """`create, patch configmaps; get secrets`"""
    by: dict[str, list[str]] = {}
    for right in dict.fromkeys(rights):
        by.setdefault(f"{right.resource}{f'.{right.group}' if right.group else ''}", []).append(right.verb)
    return "; ".join(f"{', '.join(verbs)} {resource}" for resource, verbs in by.items())


def is_allowed(kube: Kube, right: Right, namespace: str, name: str = "") -> bool:
    """The API server's own answer; without a name for all objects of the kind."""
    resource, _, sub = right.resource.partition("/")
    about = {"namespace": namespace, "verb": right.verb, "group": right.group, "resource": resource, "subresource": sub}
    about |= {"name": name} if name else {}
    path, group = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "authorization.k8s.io/v1"
    body = {"apiVersion": group, "kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": about}}
    return bool(kube.raw("POST", path, body, what="ask for this user's rights")["status"].get("allowed"))
