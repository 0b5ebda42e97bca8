"""The chart by plain helm: a long-lived cluster, a run on it, a run by itself, a schedule."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.kind import NAMESPACE, ROOT, Cluster, until
from tests.e2e.runs import ONE_POD, helm, until_epochs, wait

pytestmark = pytest.mark.timeout(900)
Name = Callable[[str], str]


def install(cluster: Cluster, release: str, *words: str) -> None:
    helm(cluster, "install", release, "helm/trainer", "-f", "helm/values/kind.yaml", *words)


def run_file(folder: Path, *, workers: int, epochs: int) -> str:
    """The example's, on the digits that scikit-learn brings, as helm's --set-file takes it."""
    text = (ROOT / "trainer_app/examples/mnist/train.yaml").read_text()
    changes = {"source: auto": "source: digits", "num_workers: 1": f"num_workers: {workers}"}
    for old, new in {**changes, "max_epochs: 5": f"max_epochs: {epochs}"}.items():
        assert old in text
        text = text.replace(old, new)
    (folder / "run.yaml").write_text(text)
    return f"run.file={folder / 'run.yaml'}"


@pytest.fixture
def releases(cluster: Cluster) -> Iterator[list[str]]:
    made: list[str] = []
    yield made
    for release in reversed(made):
        helm(cluster, "uninstall", release, "--ignore-not-found", check=False)


@pytest.fixture
def before(cluster: Cluster) -> set[str]:
    """What the namespace holds before a release comes, and is to hold after it."""
    cluster.settle()
    return cluster.names()


def test_a_cluster_that_stays_and_a_run_on_it(
    cluster: Cluster, before: set[str], name: Name, releases: list[str]
) -> None:
    stays, run = f"stays-{int(time.time()) % 10000}", name("guest")
    releases.append(stays)
    install(cluster, stays, "--set", "kind=RayCluster")
    ready = "--for=jsonpath={.status.state}=ready"
    cluster.kubectl("wait", f"raycluster/{stays}", ready, "--timeout=150s")
    assert "Phase:          Succeeded" in helm(cluster, "test", stays)
    words = ("-f", "kind", "-n", NAMESPACE, "--name", run, "--set", f"clusterSelector={stays}")
    file = "trainer_app/examples/mnist/train.yaml"
    given = ("data.init_args.source=digits", "trainer.max_epochs=2")
    cluster.trainer("submit", "train", file, *given, *words).ok()
    assert wait(cluster, run).code == 0
    assert cluster.results(run)["state"] == "succeeded"
    cluster.trainer("delete", run, "-n", NAMESPACE, timeout=120).ok()
    helm(cluster, "uninstall", stays)
    until(f"end of {stays}", lambda: cluster.names() <= before, seconds=90)
    assert cluster.objects(run, "run.json")


@pytest.mark.full
def test_a_release_uninstalled_while_it_runs(
    cluster: Cluster, before: set[str], releases: list[str], tmp_path: Path
) -> None:
    run = f"helm-run-{int(time.time()) % 10000}"
    releases.append(run)
    install(cluster, run, "--set-file", run_file(tmp_path, workers=2, epochs=300))
    until_epochs(cluster, run, 1)
    refused = helm(cluster, "upgrade", run, "helm/trainer", "-f", "helm/values/kind.yaml", "--set-file",
                   "run.file=trainer_app/examples/mnist/tune.yaml", check=False)  # fmt: skip
    assert "can't be changed: submit a new run" in refused
    assert cluster.get("rayjob", run)["status"]["jobStatus"] == "RUNNING"
    began = time.monotonic()
    helm(cluster, "uninstall", run)
    until(f"end of {run}", lambda: cluster.names() <= before, seconds=60)
    assert time.monotonic() - began <= 60


@pytest.mark.full
def test_a_schedule_triggers_one_run(cluster: Cluster, releases: list[str], tmp_path: Path) -> None:
    """KubeRay may create two RayJobs for that; here there are two in any case, and one run of them."""
    cron, children = run_cron(cluster, releases, run_file(tmp_path, workers=1, epochs=2))
    ended = {child: cluster.trainer("wait", child, "-n", NAMESPACE, timeout=480) for child in children}
    assert {done.code for done in ended.values()} == {0}, ended
    assert set(scheduled_times(cluster, cron)) == set(children), "it was triggered after it was suspended"
    (run,) = cluster.runs(cron)
    assert run in children and cluster.results(run)["state"] == "succeeded"
    listed = cluster.trainer("list", "-n", NAMESPACE).ok().out.splitlines()
    assert sum("triggered the schedule twice" in line for line in listed if cron in line) == len(children) - 1


def run_cron(cluster: Cluster, releases: list[str], file: str) -> tuple[str, list[str]]:
    """(RayCronJob, its RayJobs): suspended after it was triggered, which it is once an hour, in the next minute."""
    cron = f"cron-{int(time.time()) % 10000}"
    releases.append(cron)
    minute = time.gmtime(time.time() + 75).tm_min  # its beginning is 15 s from here at least
    schedule = ("--set", "kind=RayCronJob", "--set-string", f"cron.schedule={minute} * * * *")
    install(cluster, cron, *schedule, *ONE_POD, "--set-file", file)
    # Suspended before the operator has recorded this, its update would be refused, and it would be triggered again.
    cluster.kubectl("wait", f"raycronjob/{cron}", "--for=jsonpath={.status.lastScheduleTime}", "--timeout=120s")
    cluster.kubectl("patch", "raycronjob", cron, "--type=merge", "-p", json.dumps({"spec": {"suspend": True}}))
    first, *_ = cluster.get("rayjobs", "-l", f"ray.io/cronjob-name={cron}")
    copied = {key: first["metadata"][key] for key in ("labels", "annotations", "ownerReferences")}
    about = {key: first[key] for key in ("apiVersion", "kind", "spec")}
    twice = {**about, "metadata": {**copied, "name": f"{cron}-twice"}}
    cluster.kubectl("create", "-f", "-", given=json.dumps(twice))
    found = scheduled_times(cluster, cron)
    assert len(found) >= 2 and len(set(found.values())) == 1, found
    return cron, list(found)


def scheduled_times(cluster: Cluster, cron: str) -> dict[str, str]:
    """The time for which each RayJob of a RayCronJob was created, by name."""
    return {
        job["metadata"]["name"]: job["metadata"]["annotations"]["ray.io/cronjob-scheduled-timestamp"]
        for job in cluster.get("rayjobs", "-l", f"ray.io/cronjob-name={cron}")
    }
