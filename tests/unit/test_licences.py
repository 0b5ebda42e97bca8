"""What is installed at run time may be used in a product: permissive by its own metadata, exceptions by name.

The closure is walked from pyproject.toml over the installed distributions' metadata, for this platform.
"""

import re
import tomllib
from collections.abc import Iterable
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

pytestmark = pytest.mark.unit
PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"

# SPDX identifiers, and below them the words that older metadata has for the same licences.
PERMISSIVE = {
    *("0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0"),
    *("ISC", "MIT", "MIT-0", "MIT-CMU", "PSF-2.0", "Zlib"),
    *("Apache", "Apache 2.0", "Apache License 2.0", "Apache License, Version 2.0", "Apache Software License"),
    *("3-Clause BSD License", "BSD", "BSD 2-Clause License", "BSD License", "ISC License", "MIT License"),
}

# Not permissive in every file, or not open source, and why it may be there all the same.
WEAK = {
    "certifi": ("MPL-2.0", "copyleft per file; used unchanged; requests brings it"),
    "tqdm": ("MPL-2.0 AND MIT", "copyleft per file; used unchanged; optuna and lightning bring it"),
}
_CUDA = "NVIDIA's CUDA libraries: proprietary, redistributable as they are; torch's wheels for Linux link against them"
NVIDIA = dict.fromkeys(
    (
        *("cuda-toolkit", "nvidia-cublas", "nvidia-cuda-cupti", "nvidia-cuda-nvrtc", "nvidia-cuda-runtime"),
        *("nvidia-cudnn-cu13", "nvidia-cufft", "nvidia-cufile", "nvidia-curand", "nvidia-cusolver", "nvidia-cusparse"),
        *("nvidia-cusparselt-cu13", "nvidia-nccl-cu13", "nvidia-nvjitlink", "nvidia-nvshmem-cu13"),
    ),
    _CUDA,
)
NVIDIA_SAYS = {"LicenseRef-NVIDIA-Proprietary", "NVIDIA Proprietary Software", ""}  # cuda-toolkit says nothing
RUN_TIME = (
    "train",
    "tensorboard",
    "mlflow",
    "wandb",
    "onnx",
)  # deepspeed and huggingface are not installed here: all of them is permissive
COPYLEFT_IN_DEV = {"pytest-kind"}  # GPL: starts the tests' cluster, and is never in the image


def requirements(*extras: str) -> list[str]:
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    return sum((project["optional-dependencies"][e] for e in extras), list(project["dependencies"]))


@cache
def closure(*extras: str) -> frozenset[str]:
    """Names of all distributions that an install with these extras brings here."""
    todo = [(Requirement(r), "") for r in requirements(*extras)]
    done: set[tuple[str, str]] = set()
    while todo:
        requirement, extra = todo.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        for wanted in {"", *requirement.extras} - {e for n, e in done if n == name}:
            done.add((name, wanted))
            todo += [(Requirement(r), wanted) for r in metadata.requires(name) or []]
    return frozenset(name for name, _ in done)


def licence(name: str) -> str:
    """What the distribution's metadata says: its expression, else its short licence field, else its classifiers."""
    about = metadata.metadata(name)
    classifiers = [c.rsplit(" :: ", 1)[1] for c in about.get_all("Classifier", []) if c.startswith("License :: OSI")]
    field = next((about[key] for key in ("License-Expression", "License") if key in about), "")
    return field if field and "\n" not in field and field != "Dual License" else " OR ".join(classifiers)


def permissive(expression: str) -> bool:
    choices = (choice.strip("()").split(" AND ") for choice in expression.split(" OR "))
    return any(all(part.strip("() ") in PERMISSIVE for part in choice) for choice in choices)


def refused(names: Iterable[str]) -> dict[str, str]:
    said = {name: licence(name) for name in names}
    return {
        name: expression
        for name, expression in sorted(said.items())
        if not (
            permissive(expression)
            or (name in WEAK and WEAK[name][0] == expression)
            or (name in NVIDIA and expression in NVIDIA_SAYS)
        )
    }


def test_runtime_dependencies_are_permissive() -> None:
    assert len(closure("train")) > 100
    assert refused(closure(*RUN_TIME)) == {}


@pytest.mark.parametrize("expression", ["GPL-3.0+", "MIT AND GPL-3.0", "", "LGPL-3.0 OR GPL-2.0", "UNKNOWN"])
def test_other_licences_are_not_permissive(expression: str) -> None:
    assert not permissive(expression)


def test_a_choice_with_one_permissive_licence_is_permissive() -> None:
    assert permissive("MIT OR GPL-3.0")


def test_plain_install_is_small() -> None:
    heavy = {"torch", "torchvision", "lightning", "pytorch-lightning", "ray", "numpy", "scikit-learn", "optuna"}
    assert closure() & heavy == set()
    assert closure() < closure("train")


def test_copyleft_is_in_dev_alone() -> None:
    copyleft = re.compile(r"\b[AL]?GPL|General Public License")
    found = {name for name in closure("train", "dev") if copyleft.search(licence(name))}
    assert found == COPYLEFT_IN_DEV
    assert not found & closure("train")


def test_exceptions_are_still_needed() -> None:
    assert set(WEAK) <= closure("train")
    if "nvidia-cublas" in closure("train"):
        assert set(NVIDIA) == {n for n in closure("train") if licence(n) in NVIDIA_SAYS}
