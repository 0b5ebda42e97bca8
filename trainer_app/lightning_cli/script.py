"""A user's `main.py`, run as `python main.py` runs it."""

from __future__ import annotations

import ast
import functools
import multiprocessing
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from trainer_app.errors import ConfigError, Problem
from trainer_app.lightning_cli import importing

SUFFIX = ".py"  # of a `cli` that is a file
_START_METHOD = multiprocessing.get_start_method(allow_none=True)
_modules: dict[Path, tuple[ModuleType, str | None]] = {}  # with the start method that their first part leaves


def load_script(path: str) -> Callable[[], None]:
    """Return a function that runs the file as `__main__`.

    Raises:
        ConfigError: there is no such file.
    """
    return functools.partial(_run, _find(path))


def import_script(path: str) -> None:
    """Run what stands before `if __name__ == "__main__":`, once in a process; nothing of a file without that.

    Raises:
        ConfigError: there is no such file.
        Exception: what the file raises.
    """
    file = _find(path)
    head, rest = _split(file)
    if rest:
        _run_head(file, head)


def _find(path: str) -> Path:
    """Look for a file where user code is: in the working directory, beside the run file, on PYTHONPATH."""
    libraries = {sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")}
    folders = [Path.cwd() / entry for entry in sys.path if entry not in libraries]
    file = next((folder / path for folder in folders if (folder / path).is_file()), None)
    if file is None:
        hint = f"a file in the working directory ({Path.cwd()}) or beside the run file"
        raise ConfigError([Problem("cli", "no such file", path, hint)])
    return file.resolve()


def _split(file: Path) -> tuple[list[ast.stmt], list[ast.stmt]]:
    """Return the statements before the first `if __name__ == "__main__":`, and those from it on; all and none."""
    body = ast.parse(file.read_bytes(), file).body
    first = next((number for number, node in enumerate(body) if _is_guarded(node)), len(body))
    return body[:first], body[first:]


def _run(file: Path) -> None:
    """Run the file as `__main__`; of one with `if __name__ == "__main__":` what stands before that only once.

    So a class stays the same class, and what can be done once in a process (registering a resolver) is done once.
    """
    head, rest = _split(file)
    if not rest:
        _modules.pop(file, None)
    _run_head(file, head)
    if rest:
        module, method = _modules[file]
        multiprocessing.set_start_method(method, force=True)  # which a script may set once
        _execute(file, module, rest)


def _run_head(file: Path, head: list[ast.stmt]) -> None:
    if file in _modules:
        return
    module = ModuleType("__main__")
    module.__file__ = str(file)
    multiprocessing.set_start_method(_START_METHOD, force=True)
    _execute(file, module, head)
    _modules[file] = module, multiprocessing.get_start_method(allow_none=True)


def _execute(file: Path, module: ModuleType, body: list[ast.stmt]) -> None:
    """Run statements of the file in its module, which is `__main__` meanwhile."""
    folder = str(file.parent)
    if sys.path[0] != folder:
        sys.path.insert(0, folder)
    main, argv = sys.modules["__main__"], sys.argv
    sys.modules["__main__"] = importing.SCRIPTS["__main__"] = module
    sys.argv = [str(file)]
    try:
        exec(compile(ast.Module(body, type_ignores=[]), file, "exec", dont_inherit=True), module.__dict__)
    finally:
        sys.modules["__main__"], sys.argv = main, argv
        _register(module, file)


def _is_guarded(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)


def _register(module: ModuleType, file: Path) -> None:
    """Make what the file defines importable, and so picklable, as `main.Model`: `__main__` is Ray's in a worker."""
    name = file.stem
    other = sys.modules.get(name)
    if other is not None and getattr(other, "__file__", None) != str(file) and name not in importing.SCRIPTS:
        name = f"{name}__main__"  # a file named after a module that is in use
    sys.modules[name] = importing.SCRIPTS[name] = module
    for value in list(vars(module).values()):
        if getattr(value, "__module__", None) == "__main__":
            _rename(value, name)


def _rename(value: Any, name: str) -> None:
    value.__module__ = name
    for inner in vars(value).values() if isinstance(value, type) else ():
        if isinstance(inner, type) and inner.__module__ == "__main__":
            _rename(inner, name)
