"""Prints the time of each layer of tests (tests/unit, tests/chart, ...), above pytest's own summary.

End-to-end tests that take something away from a run on the cluster (marker `faults`) are a layer of their own.
`make test` runs pytest twice, since the quick layers use all cores at once and the others need them alone. The file
TRAINER_TEST_PARTS carries what the first said to the second, whose summary is the last that a reader sees.
"""

import json
import os
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

_seconds: defaultdict[str, float] = defaultdict(float)
_tests: Counter[str] = Counter()
_failed: list[str] = []


def _layer(report: pytest.TestReport) -> str:
    parts = report.nodeid.split("::")[0].split("/")
    layer = parts[1] if parts[0] == "tests" and len(parts) > 2 else parts[0]
    return "faults" if layer == "e2e" and "faults" in report.keywords else layer


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _seconds[_layer(report)] += report.duration  # set-up and tear-down count: they start Ray and the servers
    _tests[_layer(report)] += report.when == "setup"
    if report.failed:
        _failed.append(report.nodeid)


def _parts() -> Path | None:
    """Return the file, which is the session's: a process of xdist that runs some of its tests has none."""
    name = os.environ.get("TRAINER_TEST_PARTS")
    return Path(name) if name and "PYTEST_XDIST_WORKER" not in os.environ else None


def _earlier() -> dict[str, Any]:
    path = _parts()
    return json.loads(path.read_text()) if path and path.exists() and path.stat().st_size else {}


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail if an earlier part failed; a part of which nothing was chosen is none that failed."""
    if _parts() is None:
        return
    if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
        session.exitstatus = pytest.ExitCode.OK
    if _earlier().get("failed"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    earlier = _earlier()
    rows = [*earlier.get("rows", []), *([layer, _seconds[layer], _tests[layer]] for layer in _tests)]
    if rows:
        terminalreporter.section("time per layer")
    for layer, seconds, tests in rows:
        terminalreporter.write_line(f"{layer:<8} {seconds:7.1f} s  {tests:4} tests")
    for nodeid in earlier.get("failed", []):
        terminalreporter.write_line(f"FAILED {nodeid} (above)", red=True)
    if path := _parts():
        path.write_text(json.dumps({"rows": rows, "failed": _failed}))
