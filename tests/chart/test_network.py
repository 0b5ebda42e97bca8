"""Who may talk to whom."""

import json
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from tests.chart.conftest import Rendered, pod_templates, ray_cluster
from tests.unit.tree import ROOT
from trainer_app.errors import InputError

pytestmark = pytest.mark.chart
Render = Callable[..., Rendered]
RUN = {"podSelector": {"matchLabels": {"trainer/run": "demo"}}}
SUBMITTER = {"podSelector": {"matchLabels": {"batch.kubernetes.io/job-name": "demo"}}}
OPERATOR = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kuberay-system"}}}
DNS = {
    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
    "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
}
ANYWHERE = [
    {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16", "100.100.100.200/32", "168.63.129.16/32"]}},
    {"ipBlock": {"cidr": "::/0", "except": ["fd00:ec2::254/128", "fd00:c1::a9fe:a9fe/128", "fd20:ce::254/128"]}},
]
MINIO = {
    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "minio"}},
    "podSelector": {"matchLabels": {"app.kubernetes.io/name": "minio"}},
}
SEEN_BY = "[0].namespaceSelector.matchLabels.name"


def tcp(*ports: int) -> list[dict[str, Any]]:
    return [{"port": port, "protocol": "TCP"} for port in ports]


def test_closed_but_for_what_a_run_needs(render: Render) -> None:
    made = render()
    policies = ["NetworkPolicy/demo-submitter", "NetworkPolicy/demo"]
    assert [name for name in made if name.startswith("NetworkPolicy/")] == policies
    assert made["NetworkPolicy/demo"]["spec"] == {
        **RUN,
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": [RUN, SUBMITTER]}, {"from": [OPERATOR], "ports": tcp(8265)}],
        "egress": [
            {"to": [RUN]},
            {"to": [DNS], "ports": [{"port": 53, "protocol": "UDP"}, *tcp(53)]},
            {"to": [MINIO], "ports": tcp(9000)},
        ],
    }
    for role, pod in pod_templates(made["RayJob/demo"]).items():
        assert pod["metadata"]["labels"]["trainer/run"] == "demo", role


@pytest.mark.parametrize("kind", ["RayJob", "RayCluster"])
def test_groups_have_their_pods_labels(render: Render, kind: str) -> None:
    """KubeRay puts them on the pods too; some builds of its CRDs drop those of the template."""
    made = render(f"kind={kind}")[f"{kind}/demo"]
    cluster = ray_cluster(made)
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert group["labels"] == group["template"]["metadata"]["labels"]


def test_prometheus_and_an_ingress_controller_by_value(render: Render) -> None:
    sets = (f"networkPolicy.prometheus{SEEN_BY}=monitoring", f"networkPolicy.ingressController{SEEN_BY}=ingress")
    rules = render(*sets)["NetworkPolicy/demo"]["spec"]["ingress"]
    peers = [{"namespaceSelector": {"matchLabels": {"name": name}}} for name in ("monitoring", "ingress")]
    assert rules[2:] == [{"from": [peers[0]], "ports": tcp(8080)}, {"from": [peers[1]], "ports": tcp(8265)}]


@pytest.mark.parametrize("role, policy", [("head", "demo-autoscaler"), ("submitter", "demo-submitter")])
def test_the_api_server_for_the_submitter_and_with_autoscaling_the_head(render: Render, role: str, policy: str) -> None:
    made = render("autoscaling.enabled=true")
    assert made["NetworkPolicy/demo"] == render()["NetworkPolicy/demo"]
    spec = made[f"NetworkPolicy/{policy}"]["spec"]
    labels = pod_templates(made["RayJob/demo"])[role]["metadata"]["labels"]
    assert spec["podSelector"] == {"matchLabels": labels} and labels["trainer/role"] == role
    assert spec["policyTypes"] == ["Egress"] and spec["egress"] == [{"ports": tcp(443, 6443), "to": ANYWHERE}]
    narrow = render("autoscaling.enabled=true", "networkPolicy.apiServer.to[0].ipBlock.cidr=10.0.0.1/32")
    rule = narrow[f"NetworkPolicy/{policy}"]["spec"]["egress"][0]
    assert rule["to"] == [{"ipBlock": {"cidr": "10.0.0.1/32"}}]


def test_the_dashboard_through_an_ingress(render: Render) -> None:
    sets = ("ingress.enabled=true", "ingress.host=ray.example.org", "ingress.tlsSecret=cert")
    made = render(*sets, f"networkPolicy.ingressController{SEEN_BY}=ingress")
    spec = made["Ingress/demo"]["spec"]
    assert spec["tls"] == [{"hosts": ["ray.example.org"], "secretName": "cert"}]
    service = spec["rules"][0]["http"]["paths"][0]["backend"]["service"]
    target = made[f"Service/{service['name']}"]["spec"]
    assert service["port"]["name"] in [port["name"] for port in target["ports"]]
    assert target["selector"] == pod_templates(made["RayJob/demo"])["head"]["metadata"]["labels"]


def test_metrics_of_the_runs_pods(render: Render) -> None:
    sets = ("podMonitor.enabled=true", "podMonitor.labels.release=prometheus")
    made = render(*sets, f"networkPolicy.prometheus{SEEN_BY}=monitoring")["PodMonitor/demo"]
    assert made["metadata"]["labels"]["release"] == "prometheus"
    assert made["spec"]["podMetricsEndpoints"] == [{"port": "metrics", "interval": "30s"}]
    assert made["spec"]["selector"]["matchLabels"] == {"trainer/run": "demo"}


@pytest.mark.parametrize(
    "endpoint, port, expected",
    [
        ("", "", 443),
        ("https://s3.example.org", "", 443),
        ("http://s3.example.org", "", 80),
        ("http://minio.minio.svc:9000", "", 9000),
        ("http://minio.minio.svc", "9000", 9000),  # a Service at 80: policies see the pod's port
    ],
)
def test_the_storages_port_is_its_endpoints(render: Render, endpoint: str, port: str, expected: int) -> None:
    sets = (f"storage.endpoint={endpoint}", *([f"networkPolicy.storage.port={port}"] if port else []))
    assert render(*sets)["NetworkPolicy/demo"]["spec"]["egress"][-1]["ports"] == tcp(expected)


def test_further_peers_and_nothing_else(render: Render, tmp_path: Path) -> None:
    rules: list[dict[str, Any]] = [
        {"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}}], "ports": [{"port": 443}]},
        {"to": [{"namespaceSelector": {"matchLabels": {"name": "mlflow"}}}]},
        {"ports": [{"port": 8000, "endPort": 8010, "protocol": "UDP"}, {"port": "https"}]},
    ]
    file = tmp_path / "values.yaml"
    file.write_text(json.dumps({"networkPolicy": {"egress": rules}}))
    spec, closed = (render(values=files)["NetworkPolicy/demo"]["spec"] for files in (("kind", str(file)), ("kind",)))
    rules[0]["to"] = [ANYWHERE[0]]
    rules[2]["to"] = ANYWHERE
    assert spec == {**closed, "egress": [*closed["egress"], *rules]}


@pytest.mark.parametrize("endpoint, port", [("", 443), ("http://somewhere", 80)])
def test_a_storage_at_any_address_but_the_metadata_services(render: Render, endpoint: str, port: int) -> None:
    sets = ("storage.bucket=mine", f"storage.endpoint={endpoint}")
    rules = render(*sets, "networkPolicy.anywhere=true", values=())["NetworkPolicy/demo"]["spec"]["egress"]
    assert rules[-1] == {"to": ANYWHERE, "ports": tcp(port)}
    with pytest.raises(InputError, match=r"storage\.to is empty.* set networkPolicy\.anywhere to true"):
        render(*sets, values=())


def test_dns_is_the_clusters(render: Render) -> None:
    with pytest.raises(InputError, match=r"networkPolicy\.dns\.to"):
        render("networkPolicy.dns.to=")


@pytest.mark.parametrize(
    "cidr, left_out",
    [
        ("0.0.0.0/0", ["169.254.0.0/16", "100.100.100.200/32", "168.63.129.16/32"]),
        ("168.63.0.0/16", ["168.63.129.16/32"]),  # Azure
        ("169.0.0.0/8", ["169.254.0.0/16"]),
        ("169.254.0.0/16", ["169.254.169.254/32"]),
        ("169.254.169.0/24", ["169.254.169.254/32"]),
        ("100.64.0.0/10", ["100.100.100.200/32"]),
        ("169.254.20.10/32", None),  # NodeLocal DNSCache
        ("10.0.0.0/8", None),
        ("::/0", ["fd00:ec2::254/128", "fd00:c1::a9fe:a9fe/128", "fd20:ce::254/128"]),
        ("fc00::/7", ["fd00:ec2::254/128", "fd00:c1::a9fe:a9fe/128", "fd20:ce::254/128"]),
        ("fd20:ce::/32", ["fd20:ce::254/128"]),  # Google
        ("fd00:ec2::/32", ["fd00:ec2::254/128"]),
        ("fd00:ec2::23/128", None),  # EKS Pod Identity
        ("2001:db8::/32", None),
    ],
)
def test_no_block_has_a_metadata_service(render: Render, cidr: str, left_out: list[str] | None) -> None:
    sets = [f"networkPolicy.{key}.ipBlock.cidr={cidr}" for key in ("dns.to[0]", "storage.to[0]", "egress[0].to[0]")]
    policy = render("storage.bucket=mine", *sets, values=())["NetworkPolicy/demo"]
    blocks = [peer["ipBlock"] for rule in policy["spec"]["egress"] for peer in rule["to"] if "ipBlock" in peer]
    assert blocks == [{"cidr": cidr, **({"except": left_out} if left_out else {})}] * 3


def test_the_documented_peers_are_values(render: Render, tmp_path: Path) -> None:
    page = (ROOT / "docs/kubernetes.md").read_text().partition("### Further peers")[2]
    lines = [line for line in page.partition("A rule without")[0].splitlines() if line.startswith("    ")]
    (tmp_path / "values.yaml").write_text(dedent("\n".join(lines)))
    egress = render(values=("kind", str(tmp_path / "values.yaml")))["NetworkPolicy/demo"]["spec"]["egress"]
    assert [rule["ports"][0]["port"] for rule in egress[3:]] == [5000, 443]


def test_a_claim_is_the_nodes_to_reach(render: Render) -> None:
    rules = render("storage.claim.existing=c", values=())["NetworkPolicy/demo"]["spec"]["egress"]
    assert [rule.get("ports", [{}])[0].get("port") for rule in rules] == [None, 53]
