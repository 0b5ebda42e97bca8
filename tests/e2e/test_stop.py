"""stop, resume, delete: nothing that was trained is trained again, and no two clusters overlap."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable

import pytest

from tests.e2e.kind import NAMESPACE, Cluster, until
from tests.e2e.runs import check_whole, finish, submit_paced, until_epochs, wait

pytestmark = pytest.mark.timeout(900)
Name = Callable[[str], str]


class Clusters(threading.Thread):
    """Looks twice a second which clusters have pods: two at once is an overlap."""

    def __init__(self, cluster: Cluster, run: str) -> None:
        super().__init__(daemon=True)
        self.cluster, self.run_name = cluster, run
        self.seen: set[frozenset[str]] = set()
        self.over = threading.Event()

    def __enter__(self) -> Clusters:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.join()

    def run(self) -> None:
        while not self.over.wait(0.5):
            found = self.cluster.get("pods", "-l", f"trainer/run={self.run_name}")
            self.seen.add(
                frozenset(
                    pod["metadata"]["labels"]["ray.io/cluster"]
                    for pod in found
                    if "ray.io/cluster" in pod["metadata"]["labels"]
                )
            )


def test_stop_and_resume_and_delete_and_resume(cluster: Cluster, name: Name) -> None:
    run = name("stopped")
    submit_paced(cluster, run)
    until_epochs(cluster, run, 2)
    with Clusters(cluster, run) as looks:
        stopped, step = stop(cluster, run)
        resumed = cluster.trainer("resume", run, "-n", NAMESPACE, timeout=400).ok()
        assert f"resumed run {run} from step {step}" in resumed.err
        assert "is running: nothing to resume" in cluster.trainer("resume", run, "-n", NAMESPACE).ok().err
        until_epochs(cluster, run, stopped + 1)
        delete(cluster, run)
        refused = cluster.trainer("resume", run, "-n", NAMESPACE, "-f", "kind")  # its code is the storage's word now
        assert refused.code == 2 and "--yes" in refused.err and "code" in refused.err, refused.err
        cluster.trainer("resume", run, "-n", NAMESPACE, "-f", "kind", "--yes", timeout=400).ok()
        finish(cluster, run)  # it trains one epoch more, and ends
        assert wait(cluster, run).code == 0
    found = check_whole(cluster, run)
    assert found["history"][stopped - 1]["step"] == step
    clusters = set().union(*looks.seen)
    assert len(clusters) == 3 and max(len(one) for one in looks.seen) == 1
    assert "has finished: nothing to resume" in cluster.trainer("resume", run, "-n", NAMESPACE).ok().err


def stop(cluster: Cluster, run: str) -> tuple[int, int]:
    """(epochs, step) that `trainer stop` says; again it says the same, and whoever waits learns of it."""
    stopped = cluster.trainer("stop", run, "-n", NAMESPACE, "--grace", "120", timeout=400).ok()
    told = re.search(r"stopped run \S+ at step (\d+) \((\d+) epochs", stopped.err)
    assert told, stopped.err
    again = cluster.trainer("stop", run, "-n", NAMESPACE).ok()
    assert f"is stopped already, at step {told[1]}" in again.err
    assert "suspended" in cluster.status(run)
    assert wait(cluster, run).code == 130
    return int(told[2]), int(told[1])


def delete(cluster: Cluster, run: str) -> None:
    """After a commit; nothing of the run is left but its storage. Again: no error."""
    assert any(run in one for one in cluster.names())
    cluster.trainer("delete", run, "-n", NAMESPACE, "--grace", "60", timeout=400).ok()
    until("end of its objects", lambda: not any(run in one for one in cluster.names()), seconds=30)
    cluster.trainer("delete", run, "-n", NAMESPACE).ok()
