"""Every pod that comes of the chart, against the restricted profile: KubeRay's additions and the test pod included.

The rules are those of kubernetes.io/docs/concepts/security/pod-security-standards, restricted, as of Kubernetes 1.34.
"""

from collections.abc import Callable
from typing import Any

import pytest
import yaml

from tests.chart.conftest import Rendered, pod_templates, ray_cluster
from trainer_app.launch import helm

pytestmark = pytest.mark.chart
Render = Callable[..., Rendered]
ALLOWED = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
VARIANTS = {
    "RayJob": (),
    "grown": (
        "autoscaling.enabled=true",
        "pools.gpu.gpu.count=1",
        "pools.gpu.spot.enabled=true",
        "pools.gpu.shmSize=1Gi",
    ),
    "claim": ("storage.bucket=", "storage.claim.size=1Gi", "storage.caBundle.configMap=ca"),
    "RayCluster": ("kind=RayCluster",),
    "RayCronJob": ("kind=RayCronJob", "cron.schedule=@daily"),
    "clusterSelector": ("clusterSelector=big",),
}


def violations(spec: Any, containers: list[Any]) -> list[str]:
    """What the restricted profile has against a pod, in words of ours."""
    pod = spec.get("securityContext", {})
    found = [f"spec.{key}" for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)]
    found += [f"volume {one['name']}" for one in spec.get("volumes", []) if not ALLOWED & set(one)]
    for one in containers:
        own = one.get("securityContext", {})
        both = {**pod, **own}
        rules = {
            "privileged": not own.get("privileged"),
            "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is False,
            "capabilities": own.get("capabilities") == {"drop": ["ALL"]},
            "runAsNonRoot": both.get("runAsNonRoot") is True,
            "runAsUser": both.get("runAsUser") != 0,
            "seccompProfile": both.get("seccompProfile", {}).get("type") in ("RuntimeDefault", "Localhost"),
            "hostPort": not [port for port in one.get("ports", []) if port.get("hostPort")],
            "hostPath": True,
        }
        found += [f"{one.get('name', 'autoscaler')}: {name}" for name, good in rules.items() if not good]
        if own.get("readOnlyRootFilesystem") is not True:
            found.append(f"{one.get('name', 'autoscaler')}: readOnlyRootFilesystem (a rule of ours)")
    return found


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_pod_passes_the_restricted_profile(render: Render, variant: str) -> None:
    run = next(thing for name, thing in render(*VARIANTS[variant]).items() if name.startswith("Ray"))
    for role, pod in pod_templates(run).items():
        containers = list(pod["spec"]["containers"])
        options = (ray_cluster(run) or {}).get("autoscalerOptions") if role == "head" else None
        if options:
            containers.append(options)  # KubeRay takes the sidecar's security context from there
        assert violations(pod["spec"], containers) == [], role
        assert pod["spec"]["automountServiceAccountToken"] is False, role
        assert {"name": "tmp", "mountPath": "/tmp"} in containers[0]["volumeMounts"], role


def test_so_does_the_pod_of_helm_test() -> None:
    # `helm template` without --skip-tests; the launcher creates no test pod
    printed = helm._run_helm(
        "template", "demo", str(helm.chart_folder("trainer")), "--values", str(helm.find_values_file("kind")),
        "--set", "kind=RayCluster", "--show-only", "templates/tests/pod.yaml",
    )  # fmt: skip
    pod = yaml.safe_load(printed)
    assert violations(pod["spec"], pod["spec"]["containers"]) == []
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"


def test_the_rules_see_a_violation() -> None:
    bad = {"name": "x", "securityContext": {"privileged": True, "readOnlyRootFilesystem": True}}
    spec = {"hostNetwork": True, "volumes": [{"name": "v", "hostPath": {"path": "/"}}]}
    assert len(violations(spec, [bad])) == 7


@pytest.mark.parametrize("variant", VARIANTS)
def test_tokens_and_accounts(render: Render, variant: str) -> None:
    made = render(*VARIANTS[variant])
    run = next(thing for name, thing in made.items() if name.startswith("Ray"))
    accounts = {thing["metadata"]["name"]: thing for name, thing in made.items() if name.startswith("ServiceAccount/")}
    assert not [name for name, account in accounts.items() if account["automountServiceAccountToken"]]
    of_role = {"head": "demo-head", "submitter": "demo-submitter"}
    for role, pod in pod_templates(run).items():
        assert pod["spec"]["serviceAccountName"] == of_role.get(role, "demo-worker")
        assert pod["spec"]["serviceAccountName"] in accounts, role
    cluster = ray_cluster(run)
    assert cluster is None or cluster["authOptions"] == {"mode": "token"}
    ours = {"Role/demo-submitter", "RoleBinding/demo-submitter"} if run["kind"] != "RayCluster" else set()
    assert {name for name in made if name.startswith(("Role", "ClusterRole"))} == ours, "KubeRay makes the autoscaler's"


def test_ray_pods_leave_kuberays_labels_alone(render: Render) -> None:
    for role, pod in pod_templates(render("podLabels.team=a")["RayJob/demo"]).items():
        labels = pod["metadata"]["labels"]
        assert labels["team"] == "a", role
        assert not [key for key in labels if key.startswith(("app.kubernetes.io/", "ray.io/"))], role


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_a_pod_writes_to_its_node_is_limited(render: Render, variant: str) -> None:
    run = next(thing for name, thing in render(*VARIANTS[variant]).items() if name.startswith("Ray"))
    for role, pod in pod_templates(run).items():
        on_disk = [one for one in pod["spec"]["volumes"] if one.get("emptyDir", {}).get("medium") != "Memory"]
        assert [one["name"] for one in on_disk if "emptyDir" in one and not one["emptyDir"].get("sizeLimit")] == [], (
            role
        )
        assert pod["spec"]["containers"][0]["resources"]["requests"]["ephemeral-storage"], role
