"""Where results go: S3 by keys, a CA bundle or workload identity; a claim."""

from collections.abc import Callable
from typing import Any

import pytest
import yaml

from tests.chart.conftest import Rendered, environment, pod_templates
from trainer_app.errors import InputError
from trainer_app.storage_uri import StorageUriError, is_s3_uri, parse_storage_uri

pytestmark = pytest.mark.chart
Render = Callable[..., Rendered]
KEYS = ("storage.existingSecret=", "storage.keys.accessKeyId=AK", "storage.keys.secretAccessKey=canary")
RAY = ("head", "cpu")


def mounts(pod: Any) -> dict[str, str]:
    return {one["mountPath"]: one["name"] for one in pod["spec"]["containers"][0]["volumeMounts"]}


def volumes(pod: Any) -> dict[str, Any]:
    return {one["name"]: one for one in pod["spec"]["volumes"]}


def test_every_ray_pod_has_the_keys_and_no_other_pod(render: Render) -> None:
    made = pod_templates(render()["RayJob/demo"])
    for role in RAY:
        assert made[role]["spec"]["containers"][0]["envFrom"] == [{"secretRef": {"name": "trainer-s3"}}], role
    assert "envFrom" not in made["submitter"]["spec"]["containers"][0]


def test_keys_for_development(render: Render) -> None:
    made = render(*KEYS)
    secret = made["Secret/demo-s3"]
    assert secret["stringData"] == {"AWS_ACCESS_KEY_ID": "AK", "AWS_SECRET_ACCESS_KEY": "canary"}
    assert made["RayJob/demo"]["metadata"]["annotations"]["trainer/storage-secret"] == "demo-s3"
    for name, thing in made.items():
        assert name.startswith("Secret/") or "canary" not in yaml.safe_dump(thing), name
    pods = pod_templates(made["RayJob/demo"])
    assert [pods[role]["spec"]["containers"][0]["envFrom"] for role in RAY] == [
        [{"secretRef": {"name": "demo-s3"}}]
    ] * 2


def test_workload_identity(render: Render) -> None:
    made = render("storage.existingSecret=", r"serviceAccount.annotations.eks\.amazonaws\.com/role-arn=arn:x")
    for name in ("ServiceAccount/demo-head", "ServiceAccount/demo-worker"):
        assert made[name]["metadata"]["annotations"] == {"eks.amazonaws.com/role-arn": "arn:x"}
        assert made[name]["automountServiceAccountToken"] is False
    assert "envFrom" not in pod_templates(made["RayJob/demo"])["head"]["spec"]["containers"][0]


@pytest.mark.parametrize("kind", ["RayJob", "RayCluster"])
def test_a_service_account_that_an_administrator_made(render: Render, kind: str) -> None:
    made = render("serviceAccount.name=trainer", f"kind={kind}")
    assert [name for name in made if name.startswith("ServiceAccount/")] in ([], ["ServiceAccount/demo-submitter"])
    pods = pod_templates(made[f"{kind}/demo"])
    assert {pods[role]["spec"]["serviceAccountName"] for role in RAY} == {"trainer"}
    with pytest.raises(InputError, match=r"serviceAccount\.name trainer and serviceAccount\.annotations exclude"):
        render("serviceAccount.name=trainer", "serviceAccount.annotations.a=b")


def test_a_ca_of_ones_own(render: Render) -> None:
    pods = pod_templates(render("storage.caBundle.configMap=company-ca", "storage.caBundle.key=all.pem")["RayJob/demo"])
    for role in RAY:
        assert environment(pods[role])["AWS_CA_BUNDLE"] == "/etc/trainer-ca/ca.crt", role
        source = volumes(pods[role])[mounts(pods[role])["/etc/trainer-ca"]]["configMap"]
        assert source == {"name": "company-ca", "items": [{"key": "all.pem", "path": "ca.crt"}]}, role


@pytest.mark.parametrize("claim, name", [("existing=shared", "shared"), ("size=10Gi", "demo-storage")])
def test_a_claim(render: Render, claim: str, name: str) -> None:
    made = render("storage.bucket=", f"storage.claim.{claim}", "storage.claim.storageClassName=nfs")
    run = made["RayJob/demo"]
    assert run["metadata"]["annotations"]["trainer/storage-uri"] == "/mnt/storage/runs"
    assert run["metadata"]["annotations"]["trainer/storage-claim"] == name
    pods = pod_templates(run)
    for role in RAY:
        assert environment(pods[role])["TRAINER_STORAGE_URI"] == "/mnt/storage/runs", role
        source = volumes(pods[role])[mounts(pods[role])["/mnt/storage"]]
        assert source["persistentVolumeClaim"] == {"claimName": name}, role
    made_here = made.get("PersistentVolumeClaim/demo-storage")
    assert bool(made_here) == claim.startswith("size")
    if made_here:
        assert made_here["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}, (
            "results outlive the release"
        )
        assert made_here["spec"] == {
            "accessModes": ["ReadWriteMany"],
            "storageClassName": "nfs",
            "resources": {"requests": {"storage": "10Gi"}},
        }


def test_a_storage_of_the_run_files_own(render: Render) -> None:
    made = render("storage.bucket=", run_file="storage: {uri: s3://mine/x}")["RayJob/demo"]
    assert made["metadata"]["annotations"]["trainer/storage-uri"] == "s3://mine/x"
    assert "TRAINER_STORAGE_URI" not in environment(pod_templates(made)["head"])


@pytest.mark.parametrize(
    "uri", ["s3://mine/x", "S3://mine/x", "s3a://mine/x", "runs", "file:///x", "file://localhost/x"]
)
def test_what_is_an_object_storage(render: Render, uri: str) -> None:
    """The chart and `is_s3_uri` agree on what outlives a pod."""
    if is_s3_uri(uri):
        made = render("storage.bucket=", run_file=f"storage: {{uri: {uri}}}")["RayJob/demo"]
        assert made["metadata"]["annotations"]["trainer/storage-uri"] == uri
    else:
        with pytest.raises(InputError, match="which is lost with the pod"):
            render("storage.bucket=", run_file=f"storage: {{uri: {uri}}}")


@pytest.mark.parametrize("bucket", ["abc", "a.b_c-1", "ab", "-abc", "abc-", "a" * 256, "KEY:secret", "a@b"])
def test_a_buckets_name(render: Render, bucket: str) -> None:
    """The values' schema and `parse_storage_uri` allow the same."""
    try:
        parse_storage_uri(f"s3://{bucket}")
    except StorageUriError:
        with pytest.raises(InputError, match=r"storage\.bucket|/storage/bucket"):
            render(f"storage.bucket={bucket}")
    else:
        assert render(f"storage.bucket={bucket}", "storage.prefix=")
