"""pyproject.toml states each version; every other place that names one has to agree.

Copies are looked for in the whole tree, so that a Dockerfile, a chart or a page that comes later is checked as it is.
"""

import re
import tomllib
from collections.abc import Iterator

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.unit.tree import ROOT, files

pytestmark = pytest.mark.unit

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = (ROOT / "image/requirements.txt").read_text()
APART = {extra: (ROOT / f"image/{extra}.txt").read_text() for extra in ("deepspeed", "huggingface")}  # what they add
REFUSED = {"lightning": {"2.6.2", "2.6.3"}, "pytorch-lightning": {"2.6.2", "2.6.3"}, "kubernetes": {"37.0.2"}}

# The words that pages and comments use for a distribution: "Ray 2.60.0", "KubeRay" is none of them.
SPOKEN = {"Ray": "ray", "PyTorch": "torch", "Lightning": "lightning", "Optuna": "optuna"}


def asked() -> list[Requirement]:
    project = PYPROJECT["project"]
    lines = [*project["dependencies"], *sum(project["optional-dependencies"].values(), [])]
    return [Requirement(line) for line in lines]


def stated() -> dict[str, str]:
    """The exact versions that pyproject.toml states, by canonical name."""
    found = {canonicalize_name(r.name): s.version for r in asked() for s in r.specifier if s.operator == "=="}
    return found | {"trainer-app": PYPROJECT["project"]["version"]}


def locked(lock: str = LOCK) -> dict[str, list[tuple[str, Marker | None]]]:
    """name -> versions in a lock, each with its marker."""
    found: dict[str, list[tuple[str, Marker | None]]] = {}
    for name, version, marker in re.findall(r"^([\w.-]+)==([\w.+!]+)(?: ; ([^\\\n]+?))? \\$", lock, re.MULTILINE):
        found.setdefault(canonicalize_name(name), []).append((version, Marker(marker) if marker else None))
    return found


def copies(text: str) -> Iterator[tuple[str, str]]:
    """(distribution, version) for every version that a text names in one of the ways in which files name them."""
    names = "|".join(re.escape(name) for name in stated())
    for name, version in re.findall(rf"(?<![\w-])({names})(?:\[[\w,-]*\])?\s*==\s*(\d[\w.]*)", text):
        yield name, version
    for name, version in re.findall(rf"\b({'|'.join(SPOKEN)})\s+v?(\d+\.\d+\.\d+)\b", text):
        yield SPOKEN[name], version
    for version in re.findall(r"\brayVersion:\s*[\"']?(\d+\.\d+\.\d+)", text):
        yield "ray", version
    for name, version in re.findall(r"^(?:ARG|ENV)\s+(\w+)_VERSION=[\"']?v?(\d[\w.]*)", text, re.MULTILINE):
        if canonicalize_name(name) in stated():
            yield canonicalize_name(name), version


def test_the_lock_has_what_pyproject_asks_for() -> None:
    pins = locked() | {name: versions for lock in APART.values() for name, versions in locked(lock).items()}
    for requirement in asked():
        versions = [v for v, _ in pins.get(canonicalize_name(requirement.name), [])]
        assert versions, f"{requirement} is not in image/requirements.txt: make lock"
        assert all(requirement.specifier.contains(v) for v in versions), f"{requirement}: locked {versions}; make lock"


@pytest.mark.parametrize("lock, least", [(LOCK, 140), *((lock, 4) for lock in APART.values())], ids=["all", *APART])
def test_every_pin_has_a_hash_and_nothing_names_an_index(lock: str, least: int) -> None:
    entries = re.split(r"\n(?=\S)", lock)
    pins = [e for e in entries if not e.startswith("#")]
    assert len(pins) == sum(map(len, locked(lock).values())) > least
    assert [e.splitlines()[0] for e in pins if "--hash=sha256:" not in e] == []
    assert not re.search(r"--(extra-)?index-url|--find-links|--trusted-host|://|@ ", lock)


def test_locks_have_no_package_in_common() -> None:
    names = [name for lock in (LOCK, *APART.values()) for name in locked(lock)]
    assert len(names) == len(set(names)) and {"deepspeed", "transformers"} <= set(names)


def test_one_version_for_each_python() -> None:
    for python in ("3.11", "3.12", "3.13"):
        for system, machine in (("linux", "x86_64"), ("darwin", "arm64")):
            here = {"python_full_version": f"{python}.0", "python_version": python, "sys_platform": system}
            here |= {"platform_machine": machine, "os_name": "posix", "platform_system": system.title()}
            for name, pins in locked().items():
                fits = [v for v, marker in pins if marker is None or marker.evaluate(here)]
                assert len(fits) <= 1, f"{name} on {python} {system}: {fits}"


@pytest.mark.parametrize("name", REFUSED)
def test_refused_releases(name: str) -> None:
    versions = {v for v, _ in locked()[name]}
    assert versions and not versions & REFUSED[name]
    requirement = next(r for r in asked() if r.name == name)
    assert not any(requirement.specifier.contains(v) for v in REFUSED[name])


def test_kubernetes_is_the_version_that_resolves() -> None:
    assert stated()["kubernetes"] == "37.0.1"


def test_every_copy_of_a_version_agrees() -> None:
    wrong = [
        f"{path}: {name} {version}, but pyproject.toml has {stated()[name]}"
        for path, text in files()
        if path not in {"image/requirements.txt", "tests/unit/test_versions.py"}
        for name, version in copies(text)
        if version != stated().get(name, version) and version not in REFUSED.get(name, ())
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "text, found",
    [
        ("pip install 'ray[train,tune]==2.9.0'", ("ray", "2.9.0")),
        ("measured with Ray 2.9.0 on", ("ray", "2.9.0")),
        ("rayVersion: '2.9.0'", ("ray", "2.9.0")),
        ("ARG UV_VERSION=0.1.0", ("uv", "0.1.0")),
        ("boto3==1.0", ("boto3", "1.0")),
    ],
)
def test_copies_are_found(text: str, found: tuple[str, str]) -> None:
    assert list(copies(text)) == [found]


def test_chart_names_rays_version() -> None:
    for path, text in files("Chart.yaml"):
        assert f'appVersion: "{stated()["ray"]}"' in text.replace("'", '"'), f"{path}: appVersion is Ray's version"


def test_python_is_named_once() -> None:
    assert PYPROJECT["project"]["requires-python"] == ">=3.11"
    assert PYPROJECT["tool"]["ruff"]["target-version"] == "py311"
    assert PYPROJECT["tool"]["mypy"]["python_version"] == "3.11"
    assert "--python-version 3.11 " in (ROOT / "Makefile").read_text()
    for path, text in files("Dockerfile"):
        bases = re.findall(r"\bpython:(\d+\.\d+)", text)
        assert bases and all(Version("3.11") <= Version(b) <= Version("3.13") for b in bases), path


def test_lightning_comes_twice_at_one_version() -> None:
    assert stated()["lightning"] == stated()["pytorch-lightning"]


def test_the_installed_versions_are_the_locked_ones() -> None:
    from importlib import metadata

    wrong = {}
    for name, pins in locked().items():
        fits = [v for v, marker in pins if marker is None or marker.evaluate()]
        if fits and metadata.version(name) != fits[0]:
            wrong[name] = (metadata.version(name), fits[0])
    assert wrong == {}, "make setup"
