"""Whether the cluster's nodes have the GPUs (and other extended resources) that the pools request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set

from trainer_app.errors import TrainerError
from trainer_app.launch import rayjobs
from trainer_app.launch.finding import Finding
from trainer_app.launch.kube import Kube, Object

Request = tuple[str, str]  # (pool, resource)


def check_gpus(kube: Kube, objects: Sequence[Object]) -> list[Finding]:
    """Compare what the pools request with what the nodes have that their pods may run on."""
    requested = dict(_list_requests(objects[-1]))
    if not requested:
        return [Finding("gpus", "ok", "none requested by these values")]
    try:
        nodes = kube.request("GET", "/api/v1/nodes", what="list the nodes")["items"]
    except TrainerError:
        return [Finding("gpus", "warn", "unknown: this user may not list nodes")]
    specs = {group["groupName"]: group["template"]["spec"] for group in _worker_groups(objects[-1])}
    allocatable = {node["metadata"]["name"]: node["status"].get("allocatable", {}) for node in nodes}
    eligible = {
        (pool, kind): {node["metadata"]["name"] for node in nodes if is_eligible(node, specs[pool])}
        for pool, kind in requested
    }
    findings = []
    for group in _competing_requests(eligible):
        pools, kind = ", ".join(pool for pool, _ in group), group[0][1]
        count, names = sum(requested[one] for one in group), set[str]().union(*(eligible[one] for one in group))
        available = sum(int(allocatable[name].get(kind, 0)) for name in names)
        subject = f"pools {pools} together request" if len(group) > 1 else f"pool {pools} requests"
        message = f"{subject} {count} {kind}, eligible nodes ({len(names)}) have {available}"
        findings.append(Finding("gpus", "ok" if available >= count else "fail", message))
    return findings


def _competing_requests(eligible: Mapping[Request, Set[str]]) -> list[tuple[Request, ...]]:
    """Return each request alone, then the groups that want the same resource of the same nodes."""
    groups = [tuple(other for other in eligible if _compete(eligible, one, other)) for one in eligible]
    return [*((one,) for one in eligible), *dict.fromkeys(group for group in groups if len(group) > 1)]


def _compete(eligible: Mapping[Request, Set[str]], one: Request, other: Request) -> bool:
    return one == other or (one[1] == other[1] and bool(eligible[one] & eligible[other]))


def _worker_groups(owner: Object) -> list[Object]:
    return rayjobs.cluster_spec(owner).get("workerGroupSpecs", [])


def _list_requests(owner: Object) -> Iterator[tuple[Request, int]]:
    """Yield (request, how many at most)."""
    for group in _worker_groups(owner):
        limits = group["template"]["spec"]["containers"][0].get("resources", {}).get("limits", {})
        for kind, count in limits.items():
            if "/" in kind and int(count):
                yield (group["groupName"], kind), int(count) * int(group["maxReplicas"])


def is_eligible(node: Object, spec: Object) -> bool:
    """Return whether pods of this spec may run on the node: by nodeSelector, taints and tolerations."""
    labels = node["metadata"].get("labels", {})
    is_selected = all(labels.get(key) == value for key, value in spec.get("nodeSelector", {}).items())
    taints = [taint for taint in node["spec"].get("taints", []) if taint["effect"] != "PreferNoSchedule"]
    return is_selected and all(any(_tolerates(one, taint) for one in spec.get("tolerations", [])) for taint in taints)


def _tolerates(toleration: Object, taint: Object) -> bool:
    if toleration.get("effect") not in (None, "", taint["effect"]):
        return False
    if toleration.get("operator") == "Exists":
        return toleration.get("key") in (None, "", taint["key"])
    return toleration.get("key") == taint["key"] and toleration.get("value", "") == taint.get("value", "")
