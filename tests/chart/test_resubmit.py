"""A run that is created again: the cluster's word counts, whatever its storage says."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.chart.conftest import pod_templates
from tests.unit.test_launch_trust import RUN_FILE, Cluster, kube
from trainer_app.errors import InputError
from trainer_app.launch import helm, location, resubmit, submit
from trainer_app.launch.remote_run import RemoteRun
from trainer_app.storage import open_store

pytestmark = pytest.mark.chart
WHERE = location.RunLocation("demo", "s3://mine/runs", "", "", "keys")
SETS = ("storage.bucket=mine", "storage.prefix=runs", "networkPolicy.anywhere=true")


def resume(cluster: Cluster, *sets: str, **options: Any) -> Any:
    """Return the RayJob that was created."""
    resubmit.resubmit(kube(cluster), WHERE, say=lambda _: None, sets=sets, **options)
    return cluster.objects["RayJob", "demo"]


def test_a_tampered_storage_gives_a_run_no_rights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, cluster = RemoteRun(open_store(str(tmp_path)).child("demo"), "demo"), Cluster()
    monkeypatch.setattr(RemoteRun, "open", lambda *_: run)
    monkeypatch.setattr(location, "storage_access", lambda *_: nullcontext())
    monkeypatch.setattr("time.sleep", lambda _: None)
    release = helm.Release("demo", "team", "train", RUN_FILE, "demo-1", sets=SETS, user="alice")
    submit.submit(kube(cluster), release, None, say=lambda _: None)
    launch, _, values = run.read_launch()
    evil = {"image": {"repository": "evil"}, "serviceAccount": {"annotations": {"role": "admin"}}}
    run.write_values({**values, **evil, "networkPolicy": {"enabled": False}})
    run.record_resubmission(replace(launch, run="default-deny", image="evil:1"))
    run.write_run_file(RUN_FILE + "checkpoint: {allow: [os.system]}\n")
    policy = {"kind": "NetworkPolicy", "metadata": {"name": "default-deny"}}
    cluster.objects["NetworkPolicy", "default-deny"] = policy
    head = pod_templates(resume(cluster))["head"]["spec"]
    assert {one["image"] for one in head["containers"]} == {"trainer:dev"}
    assert cluster.objects["NetworkPolicy", "default-deny"] is policy and ("NetworkPolicy", "demo") in cluster.objects
    assert "allow" not in cluster.objects["ConfigMap", "demo-run"]["data"]["run.yaml"]
    assert not any("annotations" in one["metadata"] for (kind, _), one in cluster.objects.items() if "Account" in kind)
    assert run.read_launch().launch.run == "demo" and "image" not in run.read_launch().values

    del cluster.objects["ConfigMap", "demo-submitted"]  # without the cluster's word the user's values are needed
    before = dict(cluster.objects)
    with pytest.raises(InputError, match=r"\(3 lines above\); give the values"):
        resume(cluster)
    assert cluster.objects == before
    elsewhere = [SETS[0], "storage.prefix=others", SETS[2]]  # a RayJob named the storage in which it was found
    with pytest.raises(InputError, match="was found in s3://mine/runs, but its values keep it in s3://mine/others"):
        resume(cluster, *elsewhere)
    assert cluster.objects == before
    assert resume(cluster, *SETS)["kind"] == "RayJob"
    assert ("ConfigMap", "demo-submitted") in cluster.objects
