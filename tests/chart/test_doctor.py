"""What doctor says of the objects that the chart makes of given values."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from trainer_app.launch import doctor
from trainer_app.launch.kube import Kube
from trainer_app.launch.manifests import load_objects

pytestmark = pytest.mark.chart
BUCKET = ("storage.bucket=my-bucket", "image.repository=trainer", "image.tag=dev")
PEER = "networkPolicy.storage.to[0].ipBlock.cidr=52.216.0.0/15"


@pytest.mark.parametrize(
    "sets, values, level, words",
    [
        ((), ("kind",), "ok", "named peers only"),
        ((*BUCKET, "networkPolicy.anywhere=true"), (), "warn", "any address at port 443, the API server"),
        (("networkPolicy.egress[0].ports[0].port=8000",), ("kind",), "warn", "any address at port 8000"),
        (BUCKET, ("gke",), "warn", "networkPolicy.storage.to"),
        ((*BUCKET, PEER), (), "ok", "named peers only"),
        # another value's: networkPolicy.apiServer.to
        ((*BUCKET, PEER, "autoscaling.enabled=true"), (), "ok", "named peers only"),
        ((*BUCKET, "networkPolicy.enabled=false"), (), "ok", "no NetworkPolicy"),
    ],
)
def test_a_way_to_any_address_warns(sets: Any, values: Any, level: str, words: str, text: Callable[..., str]) -> None:
    (found,) = doctor.check_network(load_objects(text(*sets, values=values)))
    assert found.level == level and words in found.message


@pytest.mark.parametrize(
    "tag, level", [("v1.6.0", "ok"), ("v1.7.0", "ok"), ("v1.7.2@sha256:0", "ok"), ("v1.8.0", "warn")]
)
def test_versions_of_the_operator(tag: str, level: str) -> None:
    spec = {"template": {"spec": {"containers": [{"image": f"quay.io/kuberay/operator:{tag}"}]}}}
    deployment = {"spec": spec, "status": {"readyReplicas": 1}}
    (found,) = doctor.check_operator(cast(Kube, SimpleNamespace(list=lambda *_, **__: [deployment])), [])
    assert found.level == level and ("tested are 1.6 and 1.7" in found.message) == (level == "warn")
