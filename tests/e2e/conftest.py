"""One kind cluster for all end-to-end tests. Each test names its runs itself, and needs none of another test.

TRAINER_E2E=required (CI): a missing tool, or any skipped test, is a failure. Elsewhere they skip, and say why.

    pytest tests/e2e                                          # a cluster of its own, deleted at the end
    pytest tests/e2e --cluster-name mine --keep-cluster       # go on with one that is there, or keep it
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest

from tests.e2e.kind import NAMESPACE, ROOT, Cluster, make_cluster, missing

REQUIRED = os.environ.get("TRAINER_E2E") == "required"
# A run of 2 workers takes 60 to 90 s on the 2 cores that 4 nodes share.
TIMEOUT_S = 300
_seconds: dict[str, float] = {}  # of making the cluster, by step


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The time of a test does not count that of the cluster, which the first one makes."""
    for item in items:
        item.add_marker(pytest.mark.e2e)
        own = item.get_closest_marker("timeout")
        item.add_marker(pytest.mark.timeout(own.args[0] if own else TIMEOUT_S, func_only=True), append=False)


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    if why := missing():
        pytest.fail(why) if REQUIRED else pytest.skip(why)
    option = request.config.getoption
    name = option("cluster_name")
    name = "trainer-e2e" if name == "pytest-kind" else name  # that is the plugin's default, which may be another's
    made, ours = make_cluster(name, option("kind_image") or os.environ.get("KIND_IMAGE") or _image())
    _seconds.update(made.seconds)
    yield made
    if ours and not option("keep_cluster"):
        made.make("kind-down", timeout=120)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The making of the cluster is in the time of its first test."""
    for step, seconds in _seconds.items():
        terminalreporter.write_line(f"[e2e] {step}: {seconds:.0f} s")


def _image() -> str:
    """The node image that `make kind-up` takes."""
    found = re.search(r"^KIND_IMAGE \?= (\S+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert found
    return found[1]


@pytest.fixture
def name(cluster: Cluster) -> Iterator[Callable[[str], str]]:
    """Makes names of runs, and deletes those runs at the test's end, so that the next one has the nodes."""
    made: list[str] = []

    def new(base: str) -> str:
        made.append(f"{base}-{uuid.uuid4().hex[:6]}")
        return made[-1]

    yield new
    for run in made:
        cluster.trainer("delete", run, "-n", NAMESPACE, "--grace", "0", timeout=400, admin=True)


if REQUIRED:

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport() -> Generator[None, Any, Any]:
        report = yield
        if report.skipped and not hasattr(report, "wasxfail"):
            report.outcome, report.longrepr = "failed", f"skipped with TRAINER_E2E=required: {report.longrepr}"
        return report
