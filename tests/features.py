"""`make features`: run the tests that docs/features.md names. One that is skipped or not there fails as well."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/features.md"
NOT_SHOWN, GPU = "Not shown yet", "Needs a GPU"
TEST = re.compile(r"`(tests/[\w./-]+\.py::\w+(?:\[[^\]`]+\])?)`")


@dataclass
class Row:
    """A line of a table: its section, its cells, and the tests that it names."""

    section: str
    cells: list[str]
    tests: list[str]


def read_rows(text: str) -> list[Row]:
    rows = []
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        title, *lines = section.splitlines()
        for line in [line for line in lines if line.startswith("| ")][1:]:  # the first is the table's head
            cells = [cell.strip() for cell in line.strip("| ").split(" | ")]
            rows.append(Row(title, cells, TEST.findall(line)))
    return rows


def select_tests(rows: list[Row]) -> list[str]:
    """Return the tests that run here, each once. One with parameters stands for its part of the test without."""
    tests = dict.fromkeys(test for row in rows if row.section not in (NOT_SHOWN, GPU) for test in row.tests)
    return [test for test in tests if "[" not in test or test.partition("[")[0] not in tests]


@dataclass(eq=False)  # pytest keeps plugins in sets
class EveryTestPasses:
    """Fails a test that is skipped, and the session if it has not run each of `tests`."""

    tests: list[str]
    ran: set[str] = field(default_factory=set)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if report.skipped:
            report.outcome, report.longrepr = "failed", f"skipped, so that its row is not shown: {report.longrepr}"
        if report.when == "call":
            self.ran |= {report.nodeid, report.nodeid.partition("[")[0]}
        return report

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.missing and not session.exitstatus:
            session.exitstatus = 1

    @property
    def missing(self) -> list[str]:
        return [test for test in self.tests if test not in self.ran]


def main(arguments: list[str]) -> int:
    """Run the tests of the page, with arguments for pytest; return the exit code."""
    rows = read_rows(PAGE.read_text(encoding="utf-8"))
    count = Counter(row.section for row in rows)
    plugin = EveryTestPasses(select_tests(rows))
    plugins = ["-p", "tests.plugins.layers", "--full", "-q", *arguments]
    code = int(pytest.main([*plugins, *plugin.tests], plugins=[plugin]))
    for test in plugin.missing:
        print(f"error: {test} did not run: fix its name in {PAGE.name}, or its marker", file=sys.stderr)
    for row in rows:
        if row.section == NOT_SHOWN:
            print(f"error: not shown yet: {': '.join(row.cells[:2])}", file=sys.stderr)
    shown = len(rows) - count[NOT_SHOWN] - count[GPU]
    print(f"{shown} rows, {len(plugin.tests)} tests; {count[GPU]} rows need a GPU: not run")
    return code or (1 if count[NOT_SHOWN] else 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
