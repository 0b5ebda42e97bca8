"""A run that can't succeed ends soon, and says why."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.e2e.kind import NAMESPACE, Cluster, until
from tests.e2e.runs import ONE_POD, submit, wait

pytestmark = [pytest.mark.timeout(420), pytest.mark.faults]
Name = Callable[[str], str]


def test_a_class_that_is_not_in_the_image(cluster: Cluster, name: Name) -> None:
    run = name("no-class")
    submit(
        cluster,
        "train",
        run,
        "model.class_path=nowhere.to.be.Found",
        "model.init_args={}",
        "--set",
        "lifetime.backoffLimit=1",
        *ONE_POD,
    )
    until(
        "error in the status",
        lambda: "nowhere" in cluster.trainer("status", run, "-n", NAMESPACE).out,
        seconds=150,
    )
    told = cluster.trainer("status", run, "-n", NAMESPACE).out
    assert told.splitlines()[0].endswith(": failed") and "error" in told
    began = time.monotonic()
    assert wait(cluster, run, timeout=360).code == 1
    assert time.monotonic() - began < 200  # two clusters' starts, and no training
    assert "nowhere" in cluster.trainer("status", run, "-n", NAMESPACE).out


def test_a_pool_that_is_never_scheduled(cluster: Cluster, name: Name) -> None:
    run = name("no-room")
    limit = ("--set", "lifetime.preRunningDeadlineSeconds=20", "--set", "lifetime.backoffLimit=0")
    submit(cluster, "train", run, *limit, "--set", "pools.cpu.resources.requests.memory=900Gi",
           "--set", "pools.cpu.resources.limits.memory=900Gi")  # fmt: skip
    until(
        "reason in the status",
        lambda: "Insufficient memory" in cluster.trainer("status", run, "-n", NAMESPACE).out,
        seconds=60,
    )
    ended = wait(cluster, run, timeout=120)
    assert ended.code == 1 and "Insufficient memory" in ended.err, ended.err
