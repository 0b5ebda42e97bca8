"""tests/CASES.md names tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS = re.findall(r"^\| (\d\d) \|.*\| (`.*`) \|$", (ROOT / "tests/CASES.md").read_text(encoding="utf-8"), re.MULTILINE)

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(("number", "tests"), ROWS, ids=[number for number, _ in ROWS])
def test_a_cases_tests_exist(number: str, tests: str) -> None:
    for test in re.findall(r"`([^`]+)`", tests):
        file, _, name = test.partition("::")
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert name in functions, f"case {number}"


def test_the_table_is_read_whole() -> None:
    assert len(ROWS) == (ROOT / "tests/CASES.md").read_text(encoding="utf-8").count("\n| ") - 1 == len(dict(ROWS))
