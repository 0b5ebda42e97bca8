"""Four of the projects as other people write them, on the cluster with `--code`: their metrics and what they write."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.kind import NAMESPACE, Cluster
from tests.e2e.runs import ONE_POD, wait
from tests.projects import project

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]
Name = Callable[[str], str]
# subclasses and variables; a sampler and a file by hand; inputs by relative path; no LightningCLI
PROJECTS = ("04-autoencoder", "08-batch-sampler", "09-streaming", "11-trainer-only")


@pytest.mark.parametrize("of", PROJECTS)
def test_a_project_on_the_cluster(of: str, cluster: Cluster, name: Name, tmp_path: Path) -> None:
    one, run = project.load(of), name(of.partition("-")[2])
    plain, folder, copy = one.copy(tmp_path / "plain"), one.copy(tmp_path / "submitted"), tmp_path / "fetched"
    metrics = one.run_plain(plain)
    variables = [word for key, value in one.env.items() for word in ("--env", f"{key}={value}")]
    words = ("-f", "kind", "-n", NAMESPACE, "--name", run, "--code", ".", *variables, *ONE_POD)
    cluster.trainer("submit", "train", *one.trainer.split(), *words, cwd=folder).ok()
    assert wait(cluster, run).code == 0, cluster.trainer("logs", run, "-n", NAMESPACE).out
    assert project.last_metrics(cluster.results(run)["history"]) == pytest.approx(metrics, abs=1e-6)
    cluster.trainer("fetch", run, "-n", NAMESPACE, "-o", str(copy)).ok()
    ours, theirs = (project.written_files(path, one.name) for path in (copy / "artifacts", plain))
    assert theirs and theirs.keys() <= ours.keys()
    for path in theirs:
        if path.endswith((".npy", ".txt")):
            assert ours[path].read_bytes() == theirs[path].read_bytes(), path
