"""ARCHITECTURE.md is a map of the tree as it is: every module, nothing that is gone, and short."""

import re

import pytest

from tests.unit.tree import ROOT, files

pytestmark = pytest.mark.unit
LINES, WORDS = 150, 25
MODULE = re.compile(r"(?<![\w/.])\w+\.py\b")
FOLDER = re.compile(r"(?<![\w/.])(?:trainer_app|helm|k8s|image|tests|bench|docs)/(?:\w+/)*")


def page() -> str:
    return (ROOT / "ARCHITECTURE.md").read_text()


def section(text: str, heading: str) -> str:
    parts = re.split(r"^## (.*)\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))[heading]


def mapped(text: str) -> set[str]:
    """Folders and modules of the section "The tree": a line that begins with folders opens them."""
    block = section(text, "The tree").split("```")[1]
    paths: set[str] = set()
    folder = ""
    for line in block.splitlines():
        if not line.startswith(" "):
            opened = FOLDER.findall(line)
            paths |= set(opened)
            folder = opened[0] if opened else folder
        paths |= {folder + module for module in MODULE.findall(line)}
    return paths


def modules() -> set[str]:
    """Every module of trainer_app; a package counts as its folder."""
    return {path.removesuffix("__init__.py") for path, _ in files(".py") if path.startswith("trainer_app/")}


def named(text: str) -> set[str]:
    """Paths in backticks, anywhere in the page."""
    quoted = re.findall(r"`([\w./-]+)`", text)
    return {name for name in quoted if "/" in name or name.endswith(".py")}


def gone(text: str) -> set[str]:
    tree = {path for path in mapped(text) if not (ROOT / path).exists()}
    quoted = {path for path in named(text) if not any((ROOT / top / path).exists() for top in ("", "trainer_app"))}
    return tree | quoted


def missing_names(text: str) -> list[str]:
    """Names in parentheses behind a path of "To add ..." that the file does not have."""
    missing = []
    for path, names in re.findall(r"`([\w./-]+\.\w+)`\s\(([^)]*`[^)]*)\)", section(text, "To add ...")):
        file = next(ROOT / top / path for top in ("", "trainer_app") if (ROOT / top / path).exists())
        code = file.read_text()
        missing += [f"{path}: {name}" for name in re.findall(r"`([\w -]+)`", names) if name.strip() not in code]
    return missing


def test_every_module_is_on_the_map() -> None:
    assert "trainer_app/cli/app.py" in modules()
    assert modules() - mapped(page()) == set()


def test_the_map_names_nothing_that_is_gone() -> None:
    assert gone(page()) == set()


def test_a_module_that_is_gone_is_seen() -> None:
    text = page().replace("app.py the verbs", "gone.py the verbs").replace("`config/sweep.py`", "`config/lost.py`")
    assert gone(text) == {"trainer_app/cli/gone.py", "config/lost.py"}
    assert "trainer_app/cli/app.py" in modules() - mapped(text)


def test_names_that_a_change_touches_are_there() -> None:
    assert missing_names(page()) == []
    assert missing_names(page().replace("`replay`", "`play_again`")) == ["tuning/history.py: play_again"]


def test_the_page_is_short() -> None:
    assert len(page().splitlines()) <= LINES


def test_the_glossary_is_short() -> None:
    rows = re.findall(r"^\| ([a-z][a-z ,]*) \|", section(page(), "Words"), re.MULTILINE)
    words = [word for row in rows for word in row.split(", ")]
    assert 0 < len(words) <= WORDS
    assert len(words) == len(set(words))
