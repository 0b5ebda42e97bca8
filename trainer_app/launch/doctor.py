"""`trainer doctor`: what a run needs, checked from here. Nothing is created."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Literal

from trainer_app.errors import AccessDeniedError, NotFoundError, TrainerError
from trainer_app.launch import helm, location, rayjobs, rights
from trainer_app.launch.kube import Kube, Object
from trainer_app.launch.submit import check_secret, drops_labels
from trainer_app.launch.tunnel import parse_service
from trainer_app.storage import open_store

OPERATOR: Final = {"app.kubernetes.io/name": "kuberay-operator"}
TESTED: Final = (1, 6)
Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """One line of the answer."""

    check: str
    level: Level
    message: str


def run_checks(kube: Kube, values: Sequence[str], sets: Sequence[str], endpoint: str | None) -> Iterator[Finding]:
    """All findings, in the order of what depends on what. Takes a few seconds, 15 where nothing answers."""
    objects = location.render_sample(kube, values, sets, name=probe_name())
    version, app = helm.chart_versions()
    yield Finding("chart", "ok", f"{version} for Ray {app}; helm {helm.helm_version()}")
    yield check_cluster(kube)
    checks: list[Callable[[], list[Finding]]] = [
        lambda: check_crds(kube),
        lambda: check_operator(kube, objects),
        lambda: check_permissions(kube, objects),
        lambda: check_admission(kube, objects),
        lambda: check_network(objects),
        lambda: check_gpus(kube, objects),
        lambda: check_storage(kube, objects, endpoint),
    ]
    with ThreadPoolExecutor(len(checks)) as pool:
        for found in pool.map(lambda check: check(), checks):
            yield from found


def probe_name() -> str:
    """Of objects that are there for a moment, or in a dry run alone."""
    return f"doctor-{uuid.uuid4().hex[:8]}"


def check_cluster(kube: Kube) -> Finding:
    """Raises TrainerError where no cluster answers: nothing else can be said then."""
    version = kube.raw("GET", "/version", what="reach the cluster")["gitVersion"]
    return Finding("cluster", "ok", f"Kubernetes {version}, namespace {kube.namespace}, user {kube.user()}")


def check_crds(kube: Kube) -> list[Finding]:
    try:
        found = kube.raw("GET", "/apis/ray.io/v1", what="ask for KubeRay's kinds")["resources"]
    except NotFoundError:
        return [Finding("crds", "fail", "the cluster has no kind RayJob; install the KubeRay operator: make operator")]
    except TrainerError as error:
        return [Finding("crds", "fail", str(error))]
    kinds = sorted({one["kind"] for one in found if "/" not in one["name"]})
    if "RayJob" not in kinds:
        return [Finding("crds", "fail", f"ray.io/v1 has no RayJob, only {', '.join(kinds)}; install KubeRay 1.6")]
    return [Finding("crds", "ok", f"ray.io/v1: {', '.join(kinds)}")]


def check_operator(kube: Kube, objects: Sequence[Object]) -> list[Finding]:
    """Its version, whether it is ready, and its gates."""
    namespace = _operator_namespace(objects)
    try:
        found = kube.list("Deployment", labels=OPERATOR, namespace=namespace)
    except AccessDeniedError:
        return [Finding("operator", "warn", f"unknown: this user may not list deployments in {namespace}")]
    except TrainerError as error:
        return [Finding("operator", "fail", str(error))]
    if not found:
        message = (
            f"no KubeRay operator in {namespace}; install it (make operator), or set networkPolicy.operatorNamespace"
        )
        return [Finding("operator", "fail", message)]
    one = found[0]
    container = one["spec"]["template"]["spec"]["containers"][0]
    image = container["image"].rpartition("/")[2]
    if not one.get("status", {}).get("readyReplicas"):
        return [Finding("operator", "fail", f"{image} in {namespace} is not ready: kubectl get pods -n {namespace}")]
    gates = [word for word in container.get("args", []) if "feature-gates" in word] or ["default gates"]
    number = re.search(r":v?(\d+)\.(\d+)", container["image"])
    tested = number and (int(number[1]), int(number[2])) == TESTED
    untested = "" if tested else f"; tested is {TESTED[0]}.{TESTED[1]}"
    return [Finding("operator", "ok" if tested else "warn", f"{image}, {' '.join(gates)}{untested}")]


def _operator_namespace(objects: Sequence[Object]) -> str:
    """As the NetworkPolicy lets it in; KubeRay's default where there is none."""
    for obj in objects:
        for rule in obj["spec"].get("ingress", []) if obj["kind"] == "NetworkPolicy" else []:
            for peer in rule.get("from", []):
                labels = peer.get("namespaceSelector", {}).get("matchLabels", {})
                if name := labels.get("kubernetes.io/metadata.name"):
                    return str(name)
    return "kuberay-system"


def check_permissions(kube: Kube, objects: Sequence[Object]) -> list[Finding]:
    """Of this user, per verb."""
    kinds = sorted({obj["kind"] for obj in objects})
    verbs = {**rights.VERBS, "submit": [*rights.VERBS["submit"], *rights.rights_to_create(kinds)]}
    verbs["resume"] = [*rights.VERBS["resume"], *rights.rights_to_recreate(kinds)]
    if rayjobs.QUEUE in objects[-1]["metadata"].get("labels", {}):
        verbs |= {verb: [*verbs[verb], *rights.QUEUE_RIGHTS] for verb in ("stop", "resume")}
    lacking = rights.missing_rights(kube, verbs)
    fine = ", ".join(verb for verb in verbs if verb not in lacking) or "nothing"
    findings = []
    if lacking:
        short = rights.format_rights(right for rights_ in lacking.values() for right in rights_)
        message = f"in {kube.namespace} this user can do: {fine}; not: {', '.join(lacking)}, for want of: {short}"
        findings.append(Finding("rights", "fail", f"{message}; ask for the Role of k8s/rbac/submitter.yaml"))
    found = location.location_of(objects[-1])
    if found.secret and not rights.is_allowed(kube, rights.READ_SECRET, kube.namespace, found.secret):
        message = (
            f"this user may not read Secret {found.secret}: AWS_ACCESS_KEY_ID and the like of the environment count"
        )
        findings.append(Finding("rights", "warn", message))
    if service := parse_service(found.endpoint):
        short = rights.format_rights(rights.missing_rights(kube, {"": rights.REACH_STORAGE}, service[1]).get("", []))
        if short:
            message = f"the storage is a Service, and this user may not in {service[1]}: {short}"
            findings.append(Finding("rights", "warn", f"{message}; ask for that Role, or give --endpoint URL"))
    return findings or [Finding("rights", "ok", f"for all verbs: {fine}")]


def check_admission(kube: Kube, objects: Sequence[Object]) -> list[Finding]:
    """A dry run of every object; whether the CRDs keep the labels by which policies select pods."""
    findings = []
    taken = 0
    for obj in objects:
        try:
            back = kube.create(obj, dry_run=True)
            taken += 1
        except AccessDeniedError:  # the line of the rights says it
            findings.append(Finding("admission", "warn", f"unknown: this user may not create a {obj['kind']}"))
            break
        except TrainerError as error:
            if "the cluster has no kind" not in str(error):  # the line of the CRDs says it
                findings.append(Finding("admission", "fail", str(error)))
            continue
        if head := rayjobs.cluster_spec(back).get("headGroupSpec") if "spec" in back else None:
            template = head["template"]
            if not template.get("metadata", {}).get("labels"):
                known = "fail" if drops_labels(back) else "warn"
                message = (
                    "KubeRay's CRDs here drop the labels of pod templates (they lack generateEmbeddedObjectMeta): "
                    + ("NetworkPolicy and disruption budget select no pod; " if known == "fail" else "")
                    + "labels and annotations of your values are lost; install KubeRay by its own chart"
                )
                findings.append(Finding("admission", "fail" if known == "fail" else "warn", message))
    return findings or [Finding("admission", "ok", f"the cluster takes the {taken} objects of a run (dry run)")]


def check_network(objects: Sequence[Object]) -> list[Finding]:
    """Whether the run's policy names the storage: a way to any address at 443 is one to the API server too."""
    name = objects[-1]["metadata"]["name"]
    policies = [one for one in objects if one["kind"] == "NetworkPolicy" and one["metadata"]["name"] == name]
    open_ports = [
        str(port["port"])
        for policy in policies
        for rule in policy["spec"].get("egress", [])
        for port in rule.get("ports", [])
        if not rule.get("to")
    ]
    if not open_ports:
        return [Finding("network", "ok", "pods reach named peers only" if policies else "no policy, by these values")]
    message = (
        f"every pod may reach any address at port {', '.join(open_ports)}, the API server's too if it is there; "
        "give the storage's addresses: networkPolicy.storage.to"
    )
    return [Finding("network", "warn", message)]


def check_gpus(kube: Kube, objects: Sequence[Object]) -> list[Finding]:
    """What the pools ask for, against what nodes that they may run on have to give."""
    asked = dict(_requested(objects[-1]))
    if not asked:
        return [Finding("gpus", "ok", "none asked for by these values")]
    try:
        nodes = kube.raw("GET", "/api/v1/nodes", what="list the nodes")["items"]
    except TrainerError:
        return [Finding("gpus", "warn", "unknown: this user may not list nodes")]
    specs = {group["groupName"]: group["template"]["spec"] for group in _worker_groups(objects[-1])}
    having = {node["metadata"]["name"]: node["status"].get("allocatable", {}) for node in nodes}
    fitting = {
        (pool, kind): {node["metadata"]["name"] for node in nodes if _is_eligible(node, specs[pool])}
        for pool, kind in asked
    }
    findings = []
    for together in _shared_requests(fitting):
        pools, kind = ", ".join(pool for pool, _ in together), together[0][1]
        count, names = sum(asked[one] for one in together), set[str]().union(*(fitting[one] for one in together))
        there = sum(int(having[name].get(kind, 0)) for name in names)
        who = f"pool {pools} asks for {count} {kind}, {len(names)} nodes that it may use have {there}"
        if len(together) > 1:
            who = f"pools {pools} ask together for {count} {kind}, {len(names)} nodes that they may use have {there}"
        findings.append(Finding("gpus", "ok" if there >= count else "fail", who))
    return findings


def _shared_requests(fitting: Mapping[tuple[str, str], Set[str]]) -> list[tuple[tuple[str, str], ...]]:
    """Each pool alone, then those that want the same resource of the same nodes: what one takes, another has not."""
    groups = [tuple(other for other in fitting if _compete(fitting, one, other)) for one in fitting]
    return [*((one,) for one in fitting), *dict.fromkeys(group for group in groups if len(group) > 1)]


def _compete(fitting: Mapping[tuple[str, str], Set[str]], one: tuple[str, str], other: tuple[str, str]) -> bool:
    return one == other or (one[1] == other[1] and bool(fitting[one] & fitting[other]))


def _worker_groups(owner: Object) -> list[Object]:
    return rayjobs.cluster_spec(owner).get("workerGroupSpecs", [])


def _requested(owner: Object) -> Iterator[tuple[tuple[str, str], int]]:
    """((pool, resource), count at most)."""
    for group in _worker_groups(owner):
        limits = group["template"]["spec"]["containers"][0].get("resources", {}).get("limits", {})
        for kind, count in limits.items():
            if "/" in kind and int(count):
                yield (group["groupName"], kind), int(count) * int(group["maxReplicas"])


def _is_eligible(node: Object, spec: Object) -> bool:
    labels = node["metadata"].get("labels", {})
    chosen = all(labels.get(key) == value for key, value in spec.get("nodeSelector", {}).items())
    taints = [t for t in node["spec"].get("taints", []) if t["effect"] != "PreferNoSchedule"]
    return chosen and all(any(_tolerates(one, taint) for one in spec.get("tolerations", [])) for taint in taints)


def _tolerates(toleration: Object, taint: Object) -> bool:
    if toleration.get("effect") not in (None, "", taint["effect"]):
        return False
    if toleration.get("operator") == "Exists":
        return toleration.get("key") in (None, "", taint["key"])
    return toleration.get("key") == taint["key"] and toleration.get("value", "") == taint.get("value", "")


def check_storage(kube: Kube, objects: Sequence[Object], endpoint: str | None) -> list[Finding]:
    """As seen from here: an object written, read and deleted with the run's keys."""
    found, began = location.location_of_objects(objects), time.monotonic()
    if "://" not in found.uri:
        return [Finding("storage", "warn", f"a volume ({found.uri}): only doctor --in-cluster can say more")]
    try:
        check_secret(kube, objects)
        with location.storage_access(kube, found, endpoint):
            store, key = open_store(found.uri), f".doctor-{uuid.uuid4().hex[:12]}/probe"
            store.put(key, b"doctor")
            store.get(key)
            store.delete(key)
    except TrainerError as error:
        return [Finding("storage", "fail", str(error))]
    return [Finding("storage", "ok", f"{found.uri}: wrote, read and deleted in {time.monotonic() - began:.1f} s")]
