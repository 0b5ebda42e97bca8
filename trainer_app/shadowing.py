"""Modules of the user's that hide a module of Python or of a library: they come first on the path of every process."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path, PurePath
from typing import Final

from trainer_app.errors import InputError

# Python's modules that neither Ray nor Lightning imports, read in 3.11: a user's file of that name disturbs nobody.
_UNUSED: Final = frozenset(
    """
    aifc antigravity asynchat asyncore audioop cgi cgitb chunk crypt curses dbm distutils ensurepip filecmp ftplib
    graphlib idlelib imaplib imghdr imp lib2to3 mailbox mailcap msilib msvcrt nis nntplib nt nturl2path ossaudiodev
    pipes poplib pyclbr rlcompleter sched shelve smtpd sndhdr spwd sunau symtable syslog tabnanny telnetlib this tkinter
    trace turtle turtledemo uu venv wave winreg winsound xdrlib zipapp
    """.split()  # noqa: SIM905
)
_SUFFIXES: Final = (".py", ".so")
_REQUIREMENT: Final = re.compile(r"([A-Za-z0-9._-]+)\s*(?:\[([^\]]*)\])?[^;]*(?:;(.*))?")


def check_folders(folders: Iterable[str | Path]) -> None:
    """Check that no module in these folders, which come first on the path, hides one that a run imports.

    Raises:
        InputError: one does; a line for each.
    """
    check_files((Path(folder), file.name) for folder in folders for file in _list(Path(folder)))


def check_files(files: Iterable[tuple[Path, str]]) -> None:
    """Check that no module hides one that a run imports.

    Args:
        files: (folder on the path, file relative to it) of each module.

    Raises:
        InputError: one does; a line for each.
    """
    modules = {_module_of(PurePath(file)): (folder, file) for folder, file in files}
    own = {os.path.realpath(folder) for folder, _ in modules.values()}
    elsewhere = [entry for entry in sys.path if entry and os.path.realpath(entry) not in own]
    required = {_module_name(name) for name, _ in _requirements("trainer-app", ("train",))}
    problems = [
        f"{folder / file} hides {owner}, which a run imports: rename it"
        for name, (folder, file) in sorted(modules.items())
        if (owner := _owner(name, required, elsewhere))
    ]
    if problems:
        raise InputError("\n".join(problems))


def _list(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if path.suffix in _SUFFIXES or (path / "__init__.py").is_file()]
    except OSError:
        return []


def _module_of(file: PurePath) -> str:
    """Return the top-level module of a file relative to a folder on the path; "" if it is part of a package."""
    if file.name == "__init__.py" and len(file.parts) == 2:
        return file.parts[0]
    return file.name.partition(".")[0] if len(file.parts) == 1 and file.suffix in (*_SUFFIXES, "") else ""


def _owner(name: str, required: set[str], elsewhere: list[str]) -> str:
    """Return whose module a user's module of that name hides; "" if nobody's that a run needs."""
    if name in sys.stdlib_module_names - _UNUSED - set(sys.builtin_module_names):
        return f"Python's own module {name}"
    if name in required or (PathFinder.find_spec(name, elsewhere) is not None and name in _needed_modules()):
        return f"the library {name}"
    return ""


def _needed_modules() -> set[str]:
    """Return the top-level modules of all packages that this one needs, directly or not."""
    left: list[tuple[str, tuple[str, ...]]] = [("trainer-app", ("train",))]
    packages: set[tuple[str, tuple[str, ...]]] = set()
    while left:
        package = left.pop()
        if package not in packages:
            packages.add(package)
            left += _requirements(*package)
    names = {_module_name(name) for name, _ in packages}
    owners = metadata.packages_distributions()
    return {module for module, of in owners.items() if names & {_module_name(name) for name in of}}


def _requirements(package: str, extras: tuple[str, ...]) -> list[tuple[str, tuple[str, ...]]]:
    """Return the (name, extras) of what an installed package with some of its extras requires."""
    try:
        lines = metadata.requires(package) or []
    except metadata.PackageNotFoundError:
        return []
    requirements = []
    for match in map(_REQUIREMENT.match, lines):
        if match and (wanted := re.search(r"extra\s*==\s*['\"]([^'\"]+)", match[3] or "")) and wanted[1] not in extras:
            continue
        if match:
            requirements.append((match[1], tuple(re.findall(r"[^\s,]+", match[2] or ""))))
    return requirements


def _module_name(package: str) -> str:
    return re.sub(r"[-.]+", "_", package).lower()
