"""What `checkpoint.allow` may name: classes of the user's own code, of torch and of Lightning.

torch calls what a checkpoint names with the arguments in the file. So what can run a program, open a file or import a
module never gets there: Python's own modules, this program's, and those of the packages that it installs.
"""

from __future__ import annotations

import importlib.util
import pkgutil
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Final

ALLOWED: Final = "classes of your own code, of torch and of Lightning"
_TORCH: Final = frozenset(
    ("torch", "torchvision", "torchaudio", "torchmetrics", "lightning", "pytorch_lightning", "lightning_fabric")
)
_OWN: Final = ("trainer_app.examples", "trainer_app.data")  # parts of this program that are user code
_REQUIREMENT: Final = re.compile(r"[A-Za-z0-9._-]+")
_IMPORT_PATH: Final = re.compile(r"[^\W\d]\w*([.:][^\W\d]\w*)+")
# What a stored run file may name although `checkpoint.allow` may not: harmless, and arguments of Lightning's.
_ARGUMENTS: Final = (
    "ray.train.lightning.",
    "trainer_app.training.strategies.Ray",
    "datetime.timedelta",
    "collections.OrderedDict",
    "pathlib.Path",
)
_LOADERS: Final = (
    *("torch.hub.", "torch.load", "torch.jit.", "torch.package.", "torch.serialization.", "torch.multiprocessing."),
    *("torch.utils.cpp_extension.", "torch.utils.data.datapipes.", "torch.distributed.run", "torch.distributed.launch"),
)
_NOT_IMPORTED: Final = ("antigravity", "this")  # stdlib modules that act when they are imported


def why_never(name: str) -> str:
    """Return why an import path may never be in `checkpoint.allow`; "" if it may."""
    root = re.split(r"[.:]", name)[0]
    if root in sys.stdlib_module_names:
        return f"{root} is part of Python, whose functions and classes could run or read anything"
    if root in _TORCH or name.startswith(_OWN):
        return ""
    if root == "trainer_app" or (_is_installed(root) and root in _dependencies()):
        return f"{root} is a package that this program is made of, which could run or read anything"
    return ""


def find_refused(tree: Any) -> list[str]:
    """Return a line for each function and class of a run file's tree that a storage must not name.

    Those are what `why_never` refuses, also as the value of an argument: an argument may be a function.
    """
    named = [(key, path, _why_not_stored(path)) for key, path in named_code(tree)]
    return [f"{key}: {path}: {reason}" for key, path, reason in named if reason]


def named_code(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield (dotted key, import path or script) of the code that a run file's tree names; strings may name some too."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from named_code(item, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from named_code(item, f"{key}.{number}")
    elif isinstance(value, str) and (key == "cli" or _IMPORT_PATH.fullmatch(value)):
        yield key, value


def _why_not_stored(path: str) -> str:
    if path.endswith(".py") or path.startswith(_ARGUMENTS):
        return ""
    if path.startswith(_LOADERS):
        return "it loads code from elsewhere"
    reason = why_never(path)
    return (
        reason if reason and (re.split(r"[.:]", path)[0] not in sys.stdlib_module_names or _is_callable(path)) else ""
    )


def _is_callable(path: str) -> bool:
    """Return whether this is a function or class of Python's, and no file's name such as code.txt."""
    if re.split(r"[.:]", path)[0] in _NOT_IMPORTED:
        return True
    try:
        return callable(pkgutil.resolve_name(path))
    except (ImportError, AttributeError, ValueError):
        return False


def is_of_torch(name: str) -> bool:
    """Return whether an import path is one of torch's or Lightning's."""
    return re.split(r"[.:]", name)[0] in _TORCH


def _is_installed(root: str) -> bool:
    """Return whether a module is an installed package: the user's own files are known without reading all packages."""
    try:
        spec = importlib.util.find_spec(root)
    except ValueError:  # __main__
        return False
    places = [spec.origin or "", *(spec.submodule_search_locations or ())] if spec else []
    return any({"site-packages", "dist-packages"} & {*Path(place).parts} for place in places)


@cache
def _dependencies() -> frozenset[str]:
    """Return the top-level modules of the packages that this program requires, and of those that they require."""
    modules: dict[str, list[str]] = {}
    for module, distributions in metadata.packages_distributions().items():
        for distribution in distributions:
            modules.setdefault(_normalized(distribution), []).append(module)
    seen, left = set[str](), ["trainer-app"]
    while left:
        if (name := left.pop()) not in seen:
            seen.add(name)
            left += _requirements(name)
    return frozenset(module for name in seen for module in modules.get(name, ()))


def _requirements(distribution: str) -> list[str]:
    try:
        lines = metadata.requires(distribution) or []
    except metadata.PackageNotFoundError:
        return []
    wanted = (line for line in lines if "extra ==" not in line or distribution == "trainer-app")
    return [_normalized(match[0]) for line in wanted if (match := _REQUIREMENT.match(line))]


def _normalized(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()
