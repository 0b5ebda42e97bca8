"""`trainer doctor`: what a run needs, checked from this machine. Nothing is created."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from trainer_app.errors import AccessDeniedError, NotFoundError, TrainerError
from trainer_app.launch import helm, location, rayjobs, rights
from trainer_app.launch.doctor_gpus import check_gpus
from trainer_app.launch.finding import Finding
from trainer_app.launch.kube import Kube, Object
from trainer_app.launch.submit import UNCHECKED_KIND, check_secret, drops_labels
from trainer_app.launch.tunnel import parse_service
from trainer_app.storage.round_trip import check_round_trip
from trainer_app.storage_uri import is_s3_uri

OPERATOR: Final = {"app.kubernetes.io/name": "kuberay-operator"}
TESTED: Final = ((1, 6), (1, 7))


def run_checks(kube: Kube, values: Sequence[str], sets: Sequence[str], endpoint: str | None) -> Iterator[Finding]:
    """Yield all findings, the most basic first. Takes a few seconds, or 15 if nothing answers.

    Args:
        values: values files, later ones over earlier ones.
        sets: dotted values (KEY=VALUE), over the files.
        endpoint: the storage's address from this machine; None for the pods' own, a Service's by a port-forward.

    Raises:
        TrainerError: no cluster answers, or helm is missing.
        InputError: the chart refuses the values.
    """
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
        for findings in pool.map(lambda check: check(), checks):
            yield from findings


def probe_name() -> str:
    """Return a name for objects that exist for a moment, or in a dry run only."""
    return f"doctor-{uuid.uuid4().hex[:8]}"


def check_cluster(kube: Kube) -> Finding:
    """Name the cluster's version, the namespace and the user. Raises TrainerError if no cluster answers."""
    version = kube.request("GET", "/version", what="reach the cluster")["gitVersion"]
    return Finding("cluster", "ok", f"Kubernetes {version}, namespace {kube.namespace}, user {kube.user()}")


def check_crds(kube: Kube) -> list[Finding]:
    """Check that the cluster has KubeRay's kinds."""
    try:
        resources = kube.request("GET", "/apis/ray.io/v1", what="list KubeRay's kinds")["resources"]
    except NotFoundError:
        return [Finding("crds", "fail", "the cluster has no kind RayJob; install KubeRay: make operator")]
    except TrainerError as error:
        return [Finding("crds", "fail", str(error))]
    kinds = sorted({one["kind"] for one in resources if "/" not in one["name"]})
    if "RayJob" not in kinds:
        return [Finding("crds", "fail", f"ray.io/v1 has no RayJob, only {', '.join(kinds)}; install KubeRay 1.7")]
    return [Finding("crds", "ok", f"ray.io/v1: {', '.join(kinds)}")]


def check_operator(kube: Kube, objects: Sequence[Object]) -> list[Finding]:
    """Check the operator's version, whether it is ready, and its feature gates."""
    namespace = _operator_namespace(objects)
    try:
        deployments = kube.list("Deployment", labels=OPERATOR, namespace=namespace)
    except AccessDeniedError:
        return [Finding("operator", "warn", f"unknown: this user may not list deployments in {namespace}")]
    except TrainerError as error:
        return [Finding("operator", "fail", str(error))]
    if not deployments:
        remedy = "install it (make operator), or set networkPolicy.operatorNamespace"
        return [Finding("operator", "fail", f"no KubeRay operator in {namespace}; {remedy}")]
    container = deployments[0]["spec"]["template"]["spec"]["containers"][0]
    image = container["image"].rpartition("/")[2]
    if not deployments[0].get("status", {}).get("readyReplicas"):
        return [Finding("operator", "fail", f"{image} in {namespace} is not ready: kubectl get pods -n {namespace}")]
    gates = [argument for argument in container.get("args", []) if "feature-gates" in argument] or ["default gates"]
    number = re.search(r":v?(\d+)\.(\d+)", container["image"])
    is_tested = number and (int(number[1]), int(number[2])) in TESTED
    untested = "" if is_tested else f"; tested are {' and '.join(f'{major}.{minor}' for major, minor in TESTED)}"
    return [Finding("operator", "ok" if is_tested else "warn", f"{image}, {' '.join(gates)}{untested}")]


def _operator_namespace(objects: Sequence[Object]) -> str:
    """Return the namespace that the NetworkPolicy allows, or KubeRay's default."""
    for obj in objects:
        for rule in obj["spec"].get("ingress", []) if obj["kind"] == "NetworkPolicy" else []:
            for peer in rule.get("from", []):
                labels = peer.get("namespaceSelector", {}).get("matchLabels", {})
                if name := labels.get("kubernetes.io/metadata.name"):
                    return str(name)
    return "kuberay-system"


def check_permissions(kube: Kube, objects: Sequence[Object]) -> list[Finding]:
    """Check that this user may do what each verb does, and may reach the storage and its keys."""
    kinds = sorted({obj["kind"] for obj in objects})
    verbs = {**rights.VERBS, "submit": [*rights.VERBS["submit"], *rights.rights_to_create(kinds)]}
    verbs["resume"] = [*rights.VERBS["resume"], *rights.rights_to_recreate(kinds)]
    if rayjobs.QUEUE in objects[-1]["metadata"].get("labels", {}):
        verbs |= {verb: [*verbs[verb], *rights.QUEUE_RIGHTS] for verb in ("stop", "resume")}
    missing = rights.missing_rights(kube, verbs)
    allowed = ", ".join(verb for verb in verbs if verb not in missing) or "none"
    findings = _check_storage_permissions(kube, location.location_of(objects[-1]))
    if set(missing) - {rights.IN_CLUSTER}:
        needed = rights.format_rights(right for verb in missing.values() for right in verb)
        message = f"in {kube.namespace} this user may use: {allowed}; not: {', '.join(missing)}, which need: {needed}"
        findings.insert(0, Finding("permissions", "fail", f"{message}; ask for the Role of k8s/rbac/submitter.yaml"))
    return findings or [Finding("permissions", "ok", f"for {'the' if missing else 'all'} verbs: {allowed}")]


def _check_storage_permissions(kube: Kube, run_location: location.RunLocation) -> list[Finding]:
    secret, findings = run_location.secret, []
    if secret and not rights.is_allowed(kube, rights.READ_SECRET, kube.namespace, secret):
        message = f"this user may not read Secret {secret}: the AWS_ variables of the environment are used"
        findings.append(Finding("permissions", "warn", message))
    if service := parse_service(run_location.endpoint):
        missing = rights.missing_rights(kube, {"": rights.REACH_STORAGE}, service[1]).get("", [])
        if missing:
            needed = rights.format_rights(missing)
            message = f"the storage is a Service, which needs in {service[1]}: {needed}, which this user may not"
            findings.append(Finding("permissions", "warn", f"{message}; ask for that Role, or give --endpoint URL"))
    return findings


def check_admission(kube: Kube, objects: Sequence[Object]) -> list[Finding]:
    """Create every object in a dry run; check that the CRDs keep the labels by which policies select pods."""
    findings: list[Finding] = []
    accepted = 0
    for obj in (obj for obj in objects if obj["kind"] != UNCHECKED_KIND):
        try:
            created = kube.create(obj, dry_run=True)
            accepted += 1
        except AccessDeniedError:  # check_permissions names it
            findings.append(Finding("admission", "warn", f"unknown: this user may not create a {obj['kind']}"))
            break
        except TrainerError as error:
            if "the cluster has no kind" not in str(error):  # check_crds names it
                findings.append(Finding("admission", "fail", str(error)))
            continue
        head = rayjobs.cluster_spec(created).get("headGroupSpec") if "spec" in created else None
        if head and not head["template"].get("metadata", {}).get("labels"):
            selects_none = drops_labels(created)
            message = (
                "this cluster's KubeRay CRDs drop the labels of pod templates (they lack generateEmbeddedObjectMeta): "
                f"{'NetworkPolicy and PodDisruptionBudget select no pod; ' if selects_none else ''}"
                "labels and annotations of your values are lost; install KubeRay by its own chart"
            )
            findings.append(Finding("admission", "fail" if selects_none else "warn", message))
    return findings or [Finding("admission", "ok", f"the cluster accepts the {accepted} objects of a run (dry run)")]


def check_network(objects: Sequence[Object]) -> list[Finding]:
    """Check that the run's NetworkPolicy limits port 443 to the storage: an open one includes the API server."""
    name = objects[-1]["metadata"]["name"]
    policies = [one for one in objects if one["kind"] == "NetworkPolicy" and one["metadata"]["name"] == name]
    open_ports = [
        str(port["port"])
        for policy in policies
        for rule in policy["spec"].get("egress", [])
        for port in rule.get("ports", [])
        if any(peer.get("ipBlock", {}).get("cidr") == "0.0.0.0/0" for peer in rule.get("to", []))
    ]
    if not open_ports:
        return [Finding("network", "ok", "pods reach named peers only" if policies else "no NetworkPolicy is enabled")]
    message = (
        f"every pod may reach any address at port {', '.join(open_ports)}, the API server's too if it listens there; "
        "give the addresses: networkPolicy.storage.to in place of networkPolicy.anywhere, and to of each egress rule"
    )
    return [Finding("network", "warn", message)]


def check_storage(kube: Kube, objects: Sequence[Object], endpoint: str | None) -> list[Finding]:
    """Write, read and delete an object with the run's keys, from this machine.

    Args:
        objects: those of a run with the user's values, the RayJob last.
        endpoint: the storage's address from this machine; None for the pods' own, a Service's by a port-forward.
    """
    run_location = location.location_of_objects(objects)
    if not is_s3_uri(run_location.uri):
        return [Finding("storage", "warn", f"a volume ({run_location.uri}): only doctor --in-cluster can check it")]
    try:
        check_secret(kube, objects)
        with location.storage_access(kube, run_location, endpoint):
            return [Finding("storage", "ok", check_round_trip(run_location.uri))]
    except TrainerError as error:
        return [Finding("storage", "fail", str(error))]
