"""What is applied once per cluster: parsed, and held against the chart."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.test_security import violations
from trainer_app.launch.kube import KINDS

pytestmark = pytest.mark.chart
K8S = Path(__file__).parents[2] / "k8s"
VALUES = K8S.parent / "helm/values"

CRD = """\
        openAPIV3Schema:
          properties:
            metadata:
              type: object
            spec:
              properties:
                template:
                  properties:
                    metadata:
                      type: object
                    spec:
                      type: object
                other:
                  properties:
                    metadata:
                      properties:
                        labels:
                          type: object
                      type: object
                    spec:
                      type: object
"""


def script(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, K8S / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def documents(path: Path) -> list[Any]:
    return [one for one in yaml.safe_load_all(path.read_text()) if one]


@pytest.mark.parametrize("path", sorted(K8S.rglob("*.yaml")), ids=lambda path: str(path.relative_to(K8S)))
def test_each_file_is_objects(path: Path) -> None:
    for one in documents(path):
        assert one["apiVersion"] and one["kind"]


def test_crds_keep_the_labels_of_pod_templates() -> None:
    made, changed = script("crds").keep_metadata(CRD)
    schema = yaml.safe_load(made)["openAPIV3Schema"]["properties"]
    keep = "x-kubernetes-preserve-unknown-fields"
    assert changed == 1 and schema["spec"]["properties"]["template"]["properties"]["metadata"][keep] is True
    assert keep not in schema["metadata"], "the API server knows this one, and refuses the field there"
    assert keep not in schema["spec"]["properties"]["other"]["properties"]["metadata"]
    assert script("crds").keep_metadata(made) == (made, 0)


@pytest.mark.parametrize("kind", ["RayJob", "RayCluster", "RayCronJob"])
def test_the_policy_of_runs_takes_what_the_chart_makes(render: Callable[..., dict[str, Any]], kind: str) -> None:
    """Each object has the label, and the run's name at the start of its own; and each kind is among the policy's."""
    policy, binding = documents(K8S / "rbac/policy.yaml")
    rules = policy["spec"]["matchConstraints"]["resourceRules"]
    kinds = {plural for rule in rules for plural in rule["resources"]}
    sets = ("storage.bucket=", "storage.claim.size=1Gi", "autoscaling.enabled=true")
    schedule = ("cron.schedule=@daily",) if kind == "RayCronJob" else ()
    for one in render(f"kind={kind}", *sets, *schedule).values():
        assert KINDS[one["kind"]][1] in kinds, one["kind"]
        run = one["metadata"]["labels"]["trainer/run"]
        assert one["metadata"]["name"] == run or one["metadata"]["name"].startswith(f"{run}-")
    assert binding["spec"]["policyName"] == policy["metadata"]["name"]
    selector = binding["spec"]["matchResources"]["namespaceSelector"]["matchLabels"]
    assert selector.items() <= documents(K8S / "namespace.yaml")[0]["metadata"]["labels"].items()


def test_a_value_without_a_comment_is_no_readme() -> None:
    render_table = script("values_readme").render_table
    assert "| `a.b` | `1` | Words and more. |" in render_table("a:\n  # -- Words\n  #    and more.\n  b: 1\n")
    with pytest.raises(ValueError, match=r"a\.b has no comment"):
        render_table("a:\n  b: 1\n")
    with pytest.raises(ValueError, match=r"a\.b is documented, and so is a"):
        render_table("# -- Words.\na:\n  # -- Words.\n  b: 1\n")


def test_minio_passes_the_restricted_profile() -> None:
    deployment = next(one for one in documents(K8S / "minio.yaml") if one["kind"] == "Deployment")
    spec = deployment["spec"]["template"]["spec"]
    assert violations(spec, spec["containers"]) == []


def test_the_secret_of_kind_names_the_endpoint_of_its_values() -> None:
    """A run's own endpoint gets no keys unless the cluster's Secret, or the user, names it too."""
    assert yaml.safe_load((VALUES / "kind.yaml").read_text())["storage"]["endpoint"] == script("minio_keys").ENDPOINT


def test_namespaces_enforce_restricted() -> None:
    found = [one for path in K8S.glob("*.yaml") for one in documents(path) if one["kind"] == "Namespace"]
    assert {one["metadata"]["name"] for one in found} == {"trainer", "minio"}
    assert {one["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] for one in found} == {"restricted"}


def test_node_pools_and_values_name_the_same_things() -> None:
    pools, aks, eks = (
        K8S / "gpu-nodepools",
        *(yaml.safe_load((VALUES / f"{name}.yaml").read_text()) for name in ("aks", "eks-karpenter")),
    )
    storage_class = documents(pools / "aks.yaml")[0]["metadata"]["name"]
    assert aks["storage"]["claim"]["storageClassName"] == storage_class
    names = {one["kind"]: one["metadata"]["name"] for one in documents(pools / "eks-karpenter.yaml")}
    assert eks["pools"]["gpu"]["nodeSelector"] == {"karpenter.sh/nodepool": names["NodePool"]}
    queue = {one["kind"]: one for one in documents(K8S / "queues/kueue.yaml")}
    assert queue["LocalQueue"]["spec"]["clusterQueue"] == queue["ClusterQueue"]["metadata"]["name"]
