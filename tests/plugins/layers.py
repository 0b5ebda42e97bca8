"""Prints the time of each layer of tests (tests/unit, tests/chart, ...), above pytest's own summary.

End-to-end tests that take something away from a run on the cluster (marker `faults`) are a layer of their own.
"""

from collections import Counter, defaultdict

import pytest

_seconds: defaultdict[str, float] = defaultdict(float)
_tests: Counter[str] = Counter()


def _layer(report: pytest.TestReport) -> str:
    parts = report.nodeid.split("::")[0].split("/")
    layer = parts[1] if parts[0] == "tests" and len(parts) > 2 else parts[0]
    return "faults" if layer == "e2e" and "faults" in report.keywords else layer


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _seconds[_layer(report)] += report.duration  # set-up and tear-down count: they start Ray and the servers
    _tests[_layer(report)] += report.when == "setup"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _tests:
        return
    terminalreporter.section("time per layer")
    for layer in _tests:
        terminalreporter.write_line(f"{layer:<8} {_seconds[layer]:7.1f} s  {_tests[layer]:4} tests")
