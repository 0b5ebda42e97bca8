"""Private names of Ray, Lightning and jsonargparse: all are in a table, and are there in the installed versions."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata

import pytest

from tests.unit.tree import ROOT, files
from trainer_app import lightning_compat, ray_compat
from trainer_app.private_names import PrivateName

pytestmark = pytest.mark.unit

TABLES = (ray_compat, lightning_compat)
LISTED = {f"{entry.module}.{entry.name}": (entry, table) for table in TABLES for entry in table.NAMES}
OTHERS = ("ray", "lightning", "pytorch_lightning", "jsonargparse")
# Of Python and torch: os._exit, atexit._run_exitfuncs, namedtuple._replace, LRScheduler._last_lr, the stacks of threads
# for whoever watches one, the store of the process group, which every rank reaches already, and Enum._value_
KNOWN = {"_exit", "_run_exitfuncs", "_replace", "_last_lr", "_current_frames", "_get_default_store", "_value_"}


def modules() -> list[tuple[str, ast.Module]]:
    return [(path, ast.parse(text)) for path, text in files(".py") if path.startswith("trainer_app/")]


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def private_imports(tree: ast.AST) -> Iterator[str]:
    """Imports from other packages of a private module or of a private name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            paths = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            paths = [alias.name for alias in node.names]
        else:
            continue
        for path in paths:
            parts = path.split(".")
            internal = "ray.tune.execution" in path or "ray.train.v2" in path
            if parts[0] in OTHERS and (internal or any(map(is_private, parts))):
                yield path


def private_attributes(tree: ast.AST) -> set[str]:
    return {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and is_private(node.attr)}


def own_names(tree: ast.AST) -> Iterator[str]:
    """Private names that a module defines or sets on its own objects."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_own(node.value):
            yield node.attr


def is_own(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "copy", "changed")


@pytest.mark.parametrize("path", LISTED)
def test_every_name_is_there(path: str) -> None:
    entry, table = LISTED[path]
    entry.check(table.READ_IN)


def test_the_tables_were_read_in_the_installed_versions() -> None:
    """After an upgrade: read each name again, then change READ_IN."""
    read_in = {**ray_compat.READ_IN, **lightning_compat.READ_IN}
    assert {name: metadata.version(name) for name in read_in} == read_in


@pytest.mark.parametrize(
    "entry, path",
    [
        (PrivateName("ray.tune.gone", "Anything", "says why"), "ray.tune.gone.Anything"),
        (PrivateName("ray.tune.schedulers", "Gone", "says why"), "ray.tune.schedulers.Gone"),
        (
            PrivateName("ray.tune.search", "Searcher", "says why", "suggest _gone"),
            "ray.tune.search.Searcher._gone",
        ),
    ],
    ids=["module", "name", "member"],
)
def test_a_name_that_is_gone_is_reported_with_its_reason(entry: PrivateName, path: str) -> None:
    with pytest.raises(ImportError) as caught:
        entry.check({"ray": "1.2.3"})
    assert str(caught.value) == f"ray {metadata.version('ray')} has no {path}, which 1.2.3 had; needed: says why"


def test_a_name_that_is_not_listed_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="_gone is not in the table"):
        _ = ray_compat._gone


def test_private_names_are_imported_through_the_tables_alone() -> None:
    assert {path: found for path, tree in modules() if (found := list(private_imports(tree)))} == {}
    code = "from ray._private import state\nfrom lightning.a import _b\nimport ray.train.v2.api\nfrom ray import tune\n"
    assert list(private_imports(ast.parse(code))) == ["ray._private.state", "lightning.a._b", "ray.train.v2.api"]


def test_private_attributes_are_ours_or_in_a_table() -> None:
    trees = modules()
    own = {name for _, tree in trees for name in own_names(tree)}
    listed = {name for entry, _ in LISTED.values() for name in (entry.name, *entry.members.split())}
    foreign = {path: names for path, tree in trees if (names := private_attributes(tree) - own - listed - KNOWN)}
    assert foreign == {}


def test_every_name_in_the_tables_is_used() -> None:
    text = "".join(text for path, text in files(".py") if path.startswith("trainer_app/") and "_compat" not in path)
    used = {entry.name: f"_compat.{entry.name}" in text for entry, _ in LISTED.values() if not entry.members}
    used |= {member: member in text for entry, _ in LISTED.values() for member in entry.members.split()}
    assert {name for name, is_used in used.items() if not is_used} == set()


def test_the_tables_import_nothing_by_themselves() -> None:
    code = (
        "import sys, trainer_app.lightning_compat, trainer_app.ray_compat; print({'ray', 'lightning'} & {*sys.modules})"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert run.stdout.strip() == "set()", run.stderr
