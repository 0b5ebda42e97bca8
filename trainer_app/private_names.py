"""Private names of other packages: where each is, why this package needs it, and a check that it is still there."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from importlib import import_module, metadata
from typing import Any, NamedTuple


class PrivateName(NamedTuple):
    """A name that may change with any release of the package that it belongs to."""

    module: str  # where it is imported from
    name: str  # a class, function or module there
    reason: str  # what it is needed for
    members: str = ""  # private methods and attributes of the class that are used or overridden, spaces between them

    def load(self, read_in: Mapping[str, str]) -> Any:
        """Return the object.

        Args:
            read_in: by package, the version that had the name.

        Raises:
            ImportError: the name is gone; the message has the reason that it is needed for.
        """
        try:
            return getattr(import_module(self.module), self.name)
        except (ImportError, AttributeError) as error:
            raise ImportError(self._missing(f"{self.module}.{self.name}", read_in)) from error

    def check(self, read_in: Mapping[str, str]) -> None:
        """Check that the name and its members exist; `read_in` is as for `load`.

        Raises:
            ImportError: the name or a member is gone; the message has the reason that it is needed for.
        """
        loaded = self.load(read_in)
        for member in self.members.split():
            if not has_member(loaded, member):
                raise ImportError(self._missing(f"{self.module}.{self.name}.{member}", read_in))

    def _missing(self, path: str, read_in: Mapping[str, str]) -> str:
        package = self.module.partition(".")[0]
        here = f"{package} {metadata.version(package)}"
        return f"{here} has no {path}, which {read_in[package]} had; needed: {self.reason}"


def has_member(cls: Any, member: str) -> bool:
    """Return whether a class has `member`, or sets it on its instances."""
    sets = re.compile(rf"\bself\.{member}\b[^=\n]*=(?!=)")
    return hasattr(cls, member) or any(sets.search(inspect.getsource(b)) for b in cls.__mro__ if b is not object)


def load_name(names: Sequence[PrivateName], name: str, read_in: Mapping[str, str]) -> Any:
    """Return the object of a name that the table lists.

    Args:
        names: the table.
        name: of a class, function or module in it.
        read_in: by package, the version that had the names.

    Raises:
        AttributeError: the table does not list it.
        ImportError: the installed package no longer has it.
    """
    entry = next((entry for entry in names if entry.name == name), None)
    if entry is None:
        raise AttributeError(f"{name} is not in the table")
    return entry.load(read_in)
