"""Private names of other packages: where each is, why this package needs it, and a check that it is still there."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module, metadata
from typing import Any


@dataclass(frozen=True)
class PrivateName:
    """A name that may change with any release of the package that it belongs to.

    Args:
        module: where it is imported from.
        name: a module's attribute: a class, a function or a module.
        reason: what it is needed for.
        members: private methods and attributes of the class that are overridden, called or read.
    """

    module: str
    name: str
    reason: str
    members: tuple[str, ...] = ()

    def load(self, read_in: Mapping[str, str]) -> Any:
        """Return the object. Raise ImportError, with the reason, if it is gone; `read_in`: the versions that had it."""
        try:
            return getattr(import_module(self.module), self.name)
        except (ImportError, AttributeError) as error:
            raise ImportError(self._missing(f"{self.module}.{self.name}", read_in)) from error

    def check(self, read_in: Mapping[str, str]) -> None:
        """Raise ImportError, with the reason, if the name or one of its members is gone."""
        loaded = self.load(read_in)
        for member in self.members:
            if not has_member(loaded, member):
                raise ImportError(self._missing(f"{self.module}.{self.name}.{member}", read_in))

    def _missing(self, path: str, read_in: Mapping[str, str]) -> str:
        package = self.module.partition(".")[0]
        here = f"{package} {metadata.version(package)}"
        return f"{here} has no {path}, which {read_in[package]} had; needed: {self.reason}"


def has_member(cls: Any, member: str) -> bool:
    """Return whether a class has `member`, or sets it on its instances."""
    pattern = re.compile(rf"\bself\.{member}\b[^=\n]*=(?!=)")
    own = [base for base in cls.__mro__ if base.__module__ != "builtins"]
    return hasattr(cls, member) or any(pattern.search(inspect.getsource(base)) for base in own)


def load_name(names: Sequence[PrivateName], name: str, read_in: Mapping[str, str]) -> Any:
    """Return the object of that name. Raise AttributeError if `names` does not list it."""
    entry = next((entry for entry in names if entry.name == name), None)
    if entry is None:
        raise AttributeError(f"{name} is not in the table")
    return entry.load(read_in)
