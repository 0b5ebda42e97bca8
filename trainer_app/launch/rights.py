"""What each verb needs to be allowed to do: k8s/rbac/submitter.yaml grants it, `doctor` asks for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

from trainer_app.launch.kube import KINDS, Kube

PARALLEL: Final = 8


class Right(NamedTuple):
    """`resource` may have a subresource: pods/log."""

    verb: str
    resource: str
    group: str = ""


def _of(resource: str, *verbs: str, group: str = "") -> list[Right]:
    return [Right(verb, resource, group) for verb in verbs]


def _rayjobs(*verbs: str) -> list[Right]:
    return _of("rayjobs", *verbs, group="ray.io")


_LOOK: Final = [*_rayjobs("get", "list"), *_of("pods", "list"), *_of("events", "list")]
_MADE: Final = [
    *_rayjobs("create"),
    *(right for kind in ("configmaps", "serviceaccounts") for right in _of(kind, "create", "patch", "delete")),
    *_of("networkpolicies", "create", "patch", "delete", group="networking.k8s.io"),
    *_of("poddisruptionbudgets", "create", "patch", "delete", group="policy"),
]
VERBS: Final[Mapping[str, list[Right]]] = {
    "submit": [*_MADE, *_rayjobs("delete")],
    "status": _LOOK,
    "logs": [*_LOOK, *_of("pods/log", "get")],
    "list": _rayjobs("list"),
    "wait": _LOOK,
    "results": _rayjobs("get", "list"),
    "stop": [*_LOOK, *_rayjobs("patch")],
    "resume": [*_LOOK, *_MADE, *_rayjobs("patch", "delete"), *_of("configmaps", "get")],
    "delete": [*_LOOK, *_rayjobs("delete")],
    "doctor --in-cluster": [*_of("pods", "create", "get", "delete"), *_of("pods/log", "get")],
}
# The storage's own Secret; without it the keys of the person's environment count.
SECRET: Final = Right("get", "secrets")
# In the namespace of a storage that is a Service of the cluster.
STORAGE: Final = [*_of("services", "get"), *_of("pods", "list"), *_of("pods/portforward", "get")]


def missing(kube: Kube, verbs: Mapping[str, Iterable[Right]], namespace: str | None = None) -> dict[str, list[Right]]:
    """The rights that this user has not, by verb, in the namespace."""
    wanted = list(dict.fromkeys(right for rights in verbs.values() for right in rights))
    with ThreadPoolExecutor(PARALLEL) as pool:
        answers = pool.map(lambda right: allowed(kube, right, namespace or kube.namespace), wanted)
        denied = {right for right, yes in zip(wanted, answers, strict=True) if not yes}
    found = {verb: [right for right in rights if right in denied] for verb, rights in verbs.items()}
    return {verb: rights for verb, rights in found.items() if rights}


def listed(rights: Iterable[Right]) -> str:
    """`create, patch configmaps; get secrets`"""
    by: dict[str, list[str]] = {}
    for right in dict.fromkeys(rights):
        by.setdefault(f"{right.resource}{f'.{right.group}' if right.group else ''}", []).append(right.verb)
    return "; ".join(f"{', '.join(verbs)} {resource}" for resource, verbs in by.items())


def allowed(kube: Kube, right: Right, namespace: str, name: str = "") -> bool:
    """The API server's own answer; without a name for all objects of the kind."""
    resource, _, sub = right.resource.partition("/")
    about = {"namespace": namespace, "verb": right.verb, "group": right.group, "resource": resource, "subresource": sub}
    about |= {"name": name} if name else {}
    path, group = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "authorization.k8s.io/v1"
    body = {"apiVersion": group, "kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": about}}
    return bool(kube.raw("POST", path, body, what="ask for this user's rights")["status"].get("allowed"))


def of_kinds(kinds: Iterable[str]) -> list[Right]:
    """What creating these kinds needs, beside what is always created."""
    return [
        Right("create", plural, group.removeprefix("/apis/").partition("/")[0] if group.startswith("/apis/") else "")
        for group, plural in (KINDS[kind] for kind in kinds)
    ]
