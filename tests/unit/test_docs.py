"""README and docs/ against the tree: links, verbs and options, environment variables."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainer_app.cli.app import trainer

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "k8s/README.md", *sorted((ROOT / "docs").glob("*.md"))]
IDS = [str(page.relative_to(ROOT)) for page in PAGES]
VARIABLE = re.compile(r"(AWS|JSONARGPARSE|KUBE|OMP|PL|PYTHON|RAY|TERM|TRAINER|TUNE|XDG)[A-Z]*(_\w+)*")
READ_BY_LIBRARIES = {"AWS_PROFILE", "AWS_DEFAULT_REGION", "AWS_CA_BUNDLE", "KUBECONFIG"}


def read_code(folder: str, *suffixes: str) -> Iterator[str]:
    for file in sorted((ROOT / folder).rglob("*")):
        if file.suffix in suffixes and file != Path(__file__):
            yield file.read_text(encoding="utf-8")


def variables_in_code() -> set[str]:
    """Names of environment variables: whole strings in Python, and what the chart's templates set."""
    trees = (ast.walk(ast.parse(text)) for text in read_code("trainer_app", ".py"))
    strings = (node.value for tree in trees for node in tree if isinstance(node, ast.Constant))
    names = {text for text in strings if isinstance(text, str) and VARIABLE.fullmatch(text)}
    for text in read_code("helm/trainer/templates", ".tpl", ".yaml"):
        names |= {name for name in re.findall(r'(?:name: |set \$env ")(\w+)', text) if VARIABLE.fullmatch(name)}
    return names


def variables_on_page() -> set[str]:
    rows = [line for line in (ROOT / "docs/environment.md").read_text().splitlines() if line.startswith("| `")]
    return {name for row in rows for name in re.findall(r"`([A-Z]\w+)`", row.split(" | ")[0])}


def test_environment_page_is_complete() -> None:
    assert variables_in_code() - variables_on_page() == set()


def test_environment_page_names_nothing_that_is_gone() -> None:
    texts = [*read_code("trainer_app", ".py"), *read_code("helm", ".tpl", ".yaml"), *read_code("tests", ".py")]
    words = {word for text in texts for word in re.findall(r"\w+", text)}
    assert variables_on_page() - words - READ_BY_LIBRARIES == set()


def anchors(page: Path) -> set[str]:
    """GitHub's anchors of a page's headings."""
    headings = re.findall(r"^#+ (.*)", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if not link.startswith("http"):
            path, _, anchor = link.partition("#")
            target = page.parent / path if path else page
            assert target.exists(), f"{link}: no such file"
            assert not anchor or anchor in anchors(target), f"{link}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_commands_have_these_verbs_and_options(page: Path) -> None:
    root = trainer()
    for verb, rest in re.findall(r"(?:^    |`)trainer ([a-z]+)\b([^\n`#;]*)", page.read_text(), re.MULTILINE):
        command = root.get_command(root.context_class(root), verb)
        assert command is not None, f"trainer {verb}: no such verb"
        options = {name for parameter in command.params for name in parameter.opts} | {"--help"}
        for option in re.findall(r"(?<=[\s\[])--?[a-z][a-z-]*", rest):
            assert option in options, f"trainer {verb} {option}: no such option"


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for line in re.findall(r"(?:^    |`)make ([^\n`#(]*)", page.read_text(), re.MULTILINE):
        wanted = {word for word in line.split() if re.fullmatch(r"[a-z][a-z0-9-]*", word)}
        assert wanted <= targets, f"make {line}: no such target"
