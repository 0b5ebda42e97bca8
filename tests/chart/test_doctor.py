"""What doctor says of the objects that the chart makes of given values."""

from collections.abc import Callable
from typing import Any

import pytest

from trainer_app.launch import doctor
from trainer_app.launch.location import load_objects

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
