"""What holds for the tree as a whole: sizes, imports of the plain install, nothing of one machine in a file."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator

import pytest

from tests.unit.tree import ROOT, files

pytestmark = pytest.mark.unit
FILE_LINES, FUNCTION_LINES = 250, 40

# Joined here, so that this file is not found by its own search.
HOSTS = re.compile(
    "|".join(
        re.escape(".".join(parts))
        for parts in (
            *(("pypi", "org"), ("pythonhosted", "org"), ("download", "pytorch", "org"), ("crates", "io")),
            *(("registry", "npmjs", "org"), ("proxy", "golang", "org"), ("deb", "debian", "org"), ("repo", "maven")),
        )
    )
)
MACHINE_PATHS = re.compile(
    "|".join((r"(?<![\w.}])/" + "work/", r"/opt/" + "wheels", r"/Users/\w", r"/home/(?!ray\b)\w"))
)
HEAVY = ("torch", "torchvision", "torchmetrics", "lightning", "pytorch_lightning", "ray", "numpy", "jsonargparse")

BLOCKED_IMPORT = f"""
import importlib, pathlib, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {HEAVY!r}:
            raise ImportError(name + " is not in the plain install")
sys.meta_path.insert(0, Refuse())
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def functions(text: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def swallowed(text: str) -> list[int]:
    """Lines of the except blocks that do nothing: pass, ... or a string."""

    def idle(node: ast.stmt) -> bool:
        return isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))

    handlers = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ExceptHandler))
    return [handler.lineno for handler in handlers if all(map(idle, handler.body))]


def app() -> list[tuple[str, str]]:
    return [(path, text) for path, text in files(".py") if path.startswith("trainer_app/")]


def light_modules() -> list[str]:
    """Every module under the packages that the import rules keep free of torch."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    light = next(c for c in contracts if c["name"].startswith("the plain install"))["source_modules"]
    modules = [path.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path, _ in app()]
    return sorted(m for m in modules if any(m == top or m.startswith(top + ".") for top in light))


def test_files_are_short() -> None:
    assert app()
    assert {path: n for path, text in app() if (n := len(text.splitlines())) > FILE_LINES} == {}


def test_functions_are_short() -> None:
    lengths = {
        f"{path}:{f.lineno} {f.name}": (f.end_lineno or 0) - f.lineno + 1
        for path, text in app()
        for f in functions(text)
    }
    assert {where: n for where, n in lengths.items() if n > FUNCTION_LINES} == {}


def test_no_error_is_swallowed() -> None:
    assert {path: lines for path, text in files(".py") if (lines := swallowed(text))} == {}


@pytest.mark.parametrize("body", ["pass", "...", "'for now'"])
def test_swallowed_errors_are_found(body: str) -> None:
    assert swallowed(f"for i in x:\n    try:\n        f()\n    except OSError:\n        {body}\n") == [4]


def test_no_registry_host_and_no_machine_path() -> None:
    found = [
        f"{path}:{number}: {hit[0]}"
        for path, text in files()
        for number, line in enumerate(text.splitlines(), 1)
        if (hit := HOSTS.search(line) or MACHINE_PATHS.search(line))
    ]
    assert found == []


def test_hosts_and_paths_are_found() -> None:
    assert HOSTS.search("https://files." + "python" + "hosted.org/x")
    assert MACHINE_PATHS.search("see /" + "work/main") and not MACHINE_PATHS.search("tests/" + "work/main")


def test_the_plain_install_imports_without_torch_and_ray() -> None:
    modules = light_modules()
    assert "trainer_app.errors" in modules
    run = subprocess.run(
        [sys.executable, "-c", BLOCKED_IMPORT, *modules], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 0, run.stderr


def test_a_heavy_import_is_seen() -> None:
    run = subprocess.run([sys.executable, "-c", BLOCKED_IMPORT, "torch"], capture_output=True, text=True, timeout=60)
    assert "torch is not in the plain install" in run.stderr


def test_every_make_target_is_explained() -> None:
    text = (ROOT / "Makefile").read_text()
    named = set(re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE))
    targets = {t for line in named for t in line.split()}
    explained = set(re.findall(r"^([a-z0-9-]+):.*## \S", text, re.MULTILINE))
    assert targets and targets <= explained
