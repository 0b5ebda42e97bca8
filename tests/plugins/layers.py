"""Prints the time of each layer of tests (tests/unit, tests/chart, ...), above pytest's own summary."""

from collections import Counter, defaultdict

import pytest

_seconds: defaultdict[str, float] = defaultdict(float)
_tests: Counter[str] = Counter()


def _layer(nodeid: str) -> str:
    parts = nodeid.split("::")[0].split("/")
    return parts[1] if parts[0] == "tests" and len(parts) > 2 else parts[0]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _seconds[_layer(report.nodeid)] += report.duration  # set-up and tear-down count: they start Ray and the servers
    _tests[_layer(report.nodeid)] += report.when == "setup"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _tests:
        return
    terminalreporter.section("time per layer")
    for layer in _tests:
        terminalreporter.write_line(f"{layer:<8} {_seconds[layer]:7.1f} s  {_tests[layer]:4} tests")
