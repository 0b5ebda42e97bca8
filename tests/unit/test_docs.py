"""README and docs/ against the tree: links, verbs and options, environment variables."""

from __future__ import annotations

import ast
import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from docs.capture import Screen
from trainer_app import config
from trainer_app.cli.app import trainer

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "k8s/README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES.append(ROOT / "trainer_app/examples/starter/project/README.md")
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


def test_run_file_of_the_readme_is_valid(tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    file = tmp_path / "run.yaml"
    file.write_text(example)
    assert config.load([str(file)], []).tune is not None


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_commands_have_these_verbs_and_options(page: Path) -> None:
    root = trainer()
    for verb, rest in re.findall(r"(?:^    |`)trainer ([a-z]+)\b([^\n`#;]*)", page.read_text(), re.MULTILINE):
        own, _, of_pod = rest.partition(" -- ")
        check_options(root, verb, own)
        if of_pod:
            check_options(root, own.split()[0], f" {of_pod}")


def check_options(root: Any, verb: str, words: str) -> None:
    command = root.get_command(root.context_class(root), verb)
    assert command is not None, f"trainer {verb}: no such verb"
    options = {name for parameter in command.params for name in parameter.opts} | {"--help"}
    for option in re.findall(r"(?<=[\s\[])--?[a-z][a-z-]*", words):
        assert option in options, f"trainer {verb} {option}: no such option"


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for line in re.findall(r"(?:^    |`)make ([^\n`#(]*)", page.read_text(), re.MULTILINE):
        wanted = {word for word in line.split() if re.fullmatch(r"[a-z][a-z0-9-]*", word)}
        assert wanted <= targets, f"make {line}: no such target"


def test_picture_of_a_sweep_is_small_and_has_no_path_or_address_of_a_machine() -> None:
    picture = (ROOT / "docs/sweep.svg").read_text(encoding="utf-8")
    texts = [html.unescape("".join(one.itertext())) for one in ElementTree.fromstring(picture).iter() if one.text]
    shown = "\n".join(texts).replace("\xa0", " ")
    assert len(picture) < 200_000
    assert "trainer tune trainer_app/examples/mnist/tune.yaml" in shown
    assert "succeeded" in shown
    assert not re.findall(r"(?:^|\s)/\w+/\S*|@font-face|url\(http", f"{shown}\n{picture}", re.MULTILINE)


def test_screen_of_the_capture_keeps_what_a_live_table_leaves() -> None:
    screen = Screen()
    erase = "\r\x1b[2K\x1b[1A\x1b[2K"
    screen.feed("note\r\nt0 \x1b[36mrunning\x1b[0m\r\n1.0s", 1.0)
    screen.feed(f"{erase}t0 finished\r\n2.0s{erase}", 2.0)
    screen.feed("end\r\n", 3.0)
    assert screen.frames == [
        (2.0, ["note", "t0 \x1b[36mrunning\x1b[0m", "1.0s"]),
        (2.0, ["note", "t0 finished", "2.0s"]),
    ]
    assert screen.lines == ["note", "end", ""]
