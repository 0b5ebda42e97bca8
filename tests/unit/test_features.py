"""docs/features.md names tests that exist, and `make features` fails where it does not show a row."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

from tests import features
from tests.features import GPU, NOT_SHOWN, PAGE, ROOT, read_rows, select_tests

pytestmark = pytest.mark.unit
ROWS = read_rows(PAGE.read_text(encoding="utf-8"))

TABLE = """
## Tune with Lightning

| feature | in a run file | test |
|---|---|---|
| `a | b` | `x` | `tests/unit/a.py::test_a`, `tests/unit/a.py::test_b[x-y]` |
| c | `x` | `tests/unit/a.py::test_b` |

## Needs a GPU

| document | feature | in a run file | test |
|---|---|---|---|
| Tune | d | | `tests/unit/a.py::test_gpu` |
"""


@cache
def functions_of(file: str) -> frozenset[str]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def test_the_named_tests_exist() -> None:
    named = {test for row in ROWS for test in row.tests}
    gone = {test for test in named if not (ROOT / test.partition("::")[0]).exists()}
    gone |= {
        t for t in named - gone if t.partition("[")[0].partition("::")[2] not in functions_of(t.partition("::")[0])
    }
    assert named and gone == set()


def test_every_row_names_a_test_that_runs_on_this_machine() -> None:
    """An end-to-end test needs a cluster: it shows no row by itself."""
    rows = [row for row in ROWS if row.section not in (NOT_SHOWN, GPU)]
    assert [row.cells[0] for row in rows if not row.tests] == []
    layers = ("tests/unit/", "tests/local/", "tests/projects/")
    assert [test for row in rows for test in row.tests if not test.startswith(layers)] == []


def test_rows_are_read() -> None:
    rows = read_rows(TABLE)
    assert [(row.section, len(row.tests)) for row in rows] == [
        ("Tune with Lightning", 2), ("Tune with Lightning", 1), ("Needs a GPU", 1)
    ]  # fmt: skip
    assert select_tests(rows) == ["tests/unit/a.py::test_a", "tests/unit/a.py::test_b"]


@pytest.mark.parametrize(
    "body, code",
    [
        ("def test_it(): assert True", 0),
        ("def test_it(): assert False", 1),
        ("import pytest\n@pytest.mark.skip\ndef test_it(): assert True", 1),
        ("import pytest\ndef test_it(): pytest.skip('no')", 1),
        ("def test_other(): assert True", 4),
    ],
    ids=["passes", "fails", "marked", "skips", "gone"],
)
def test_a_row_that_is_not_shown_fails(
    body: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tests").mkdir()
    file = f"tests/test_{tmp_path.name}.py"  # pytest imports a name once
    (tmp_path / file).write_text(body)
    (tmp_path / "tests/conftest.py").write_text(
        "def pytest_addoption(parser): parser.addoption('--full', action='store_true')"
    )
    other = f"tests/other/test_other_{tmp_path.name}.py"  # with a conftest of its own, as here
    (tmp_path / other).parent.mkdir()
    (tmp_path / other).write_text("def test_it(): assert True")
    (tmp_path / "tests/other/conftest.py").write_text("")
    page = tmp_path / "features.md"
    page.write_text(f"## Tune\n\n| feature | test |\n|---|---|\n| a | `{file}::test_it`, `{other}::test_it` |\n")
    monkeypatch.setattr(features, "PAGE", page)
    monkeypatch.chdir(tmp_path)
    assert features.main(["-c", "/dev/null", "--rootdir", str(tmp_path), "-p", "no:cacheprovider"]) == code
    assert "1 rows, 2 tests; 0 rows need a GPU" in capfd.readouterr().out


def test_a_row_that_has_no_test_yet_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "features.md"
    page.write_text(f"## {NOT_SHOWN}\n\n| document | feature |\n|---|---|\n| Tune | a |\n")
    monkeypatch.setattr(features, "PAGE", page)
    monkeypatch.setattr("pytest.main", lambda *args, **kwargs: 0)
    assert features.main([]) == 1
