"""A user's `main.py`, run as `python main.py` runs it."""

from __future__ import annotations

import functools
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from trainer_app.errors import ConfigError, Problem
from trainer_app.lightning_cli import importing

SUFFIX = ".py"  # of a `cli` that is a file
_renamed: list[Any] = []  # what the last run of a file defined


def load_script(path: str) -> Callable[[], None]:
    """Return a function that runs the file as `__main__`; each call runs it anew.

    It is looked for where user code is: in the working directory, beside the run file, on PYTHONPATH.

    Raises:
        ConfigError: there is no such file.
    """
    libraries = {sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")}
    folders = [Path.cwd() / entry for entry in sys.path if entry not in libraries]
    file = next((folder / path for folder in folders if (folder / path).is_file()), None)
    if file is None:
        hint = f"a file in the working directory ({Path.cwd()}) or beside the run file"
        raise ConfigError([Problem("cli", "no such file", path, hint)])
    return functools.partial(_run, file.resolve())


def _run(file: Path) -> None:
    for value in _renamed:  # jsonargparse would find two classes of the same short name
        value.__module__ = "__main__"
    folder = str(file.parent)
    if sys.path[0] != folder:
        sys.path.insert(0, folder)
    module = ModuleType("__main__")
    module.__file__ = str(file)
    main, argv = sys.modules["__main__"], sys.argv
    sys.modules["__main__"] = importing.SCRIPTS["__main__"] = module
    sys.argv = [str(file)]
    try:
        exec(compile(file.read_bytes(), file, "exec"), module.__dict__)
    finally:
        sys.modules["__main__"], sys.argv = main, argv
        _register(module, file)


def _register(module: ModuleType, file: Path) -> None:
    """Make what the file defines importable, and so picklable, as `main.Model`: `__main__` is Ray's in a worker."""
    name = file.stem
    other = sys.modules.get(name)
    if other is not None and getattr(other, "__file__", None) != str(file) and name not in importing.SCRIPTS:
        name = f"{name}__main__"  # a file named after a module that is in use
    sys.modules[name] = importing.SCRIPTS[name] = module
    _renamed.clear()
    for value in list(vars(module).values()):
        if getattr(value, "__module__", None) == "__main__":
            _rename(value, name)


def _rename(value: Any, name: str) -> None:
    value.__module__ = name
    _renamed.append(value)
    for inner in vars(value).values() if isinstance(value, type) else ():
        if isinstance(inner, type) and inner.__module__ == "__main__":
            _rename(inner, name)
