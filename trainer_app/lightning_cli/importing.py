"""Imports of user code, with errors that say what to do."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from trainer_app.errors import ConfigError, Problem
from trainer_app.user_errors import describe_error

# The user's script by its stem, and the last one as `__main__`; script.py fills it.
SCRIPTS: dict[str, ModuleType] = {}
_FOLDERS: list[str] = []  # of the run files


def add_import_paths(*folders: str | Path) -> None:
    """Put the working directory, then `folders`, at the front of `sys.path`, once.

    With `python -m` the working directory is there; the console script `trainer` has its own folder instead.
    """
    _FOLDERS[:] = [str(Path(folder).absolute()) for folder in folders] or _FOLDERS
    wanted = [str(Path(folder).absolute()) for folder in (".", *folders)]
    for folder in reversed(wanted):
        if folder not in sys.path and not (folder == wanted[0] and "" in sys.path):
            sys.path.insert(0, folder)


def relative_folders() -> list[str]:
    """Return the folders to which a run file's relative paths may be: those of the run files, the working directory."""
    started_with = [folder for folder in os.environ.get("TRAINER_FOLDERS", "").split(os.pathsep) if folder]
    known = [folder for folder in (*_FOLDERS, *started_with) if Path(folder).is_dir()]
    return list(dict.fromkeys([*known, str(Path.cwd())]))


def load_object(key: str, path: str) -> Any:
    """Return the object that `package.module:name` or `package.module.name` names.

    Raises:
        ConfigError: it can't be imported, or user code raises at import; its one problem is at `key`.
    """
    parts = path.replace(":", ".").split(".")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise ConfigError([Problem(key, "not an import path", path, "write package.module.Name")])
    module_name, colon, names = path.partition(":")
    if colon:
        return _get_attribute(key, path, _import_module(key, module_name), names.split("."))
    module = _import_module(key, parts[0])
    for cut in range(2, len(parts)):
        # A class in the middle is an attribute of the module before it: a nested class, a classmethod.
        if isinstance(getattr(module, parts[cut - 1], None), type) and not hasattr(module, "__path__"):
            return _get_attribute(key, path, module, parts[cut - 1 :])
        module = _import_module(key, ".".join(parts[:cut]))
    return _get_attribute(key, path, module, parts[-1:])


def _import_module(key: str, name: str) -> ModuleType:
    try:
        return SCRIPTS.get(name) or importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            hint = f"is its folder the working directory ({Path.cwd()}) or on PYTHONPATH?"
            if not _FOLDERS and not os.environ.get("TRAINER_FOLDERS"):  # no FILE, beside which it could be
                hint += " If not, name it: --import-from DIR"
            raise ConfigError([Problem(key, f"no module named {error.name!r}", allowed=hint)]) from error
        raise ConfigError([_import_problem(key, name, error, "install it in this environment")]) from error
    except SystemExit as error:
        hint = 'guard what the script runs with `if __name__ == "__main__":`'
        raise ConfigError([_import_problem(key, name, error, hint)]) from error
    except Exception as error:
        raise ConfigError([_import_problem(key, name, error, "")]) from error


def _import_problem(key: str, name: str, error: BaseException, hint: str) -> Problem:
    return Problem(key, f"importing {name} raised {describe_error(error)}", allowed=hint)


def _get_attribute(key: str, path: str, value: Any, names: list[str]) -> Any:
    for name in names:
        if not hasattr(value, name):
            where = getattr(value, "__name__", str(value))
            file = getattr(value, "__file__", None)
            public = sorted(
                n for n, v in vars(value).items() if isinstance(v, type) and n[0] != "_" and is_defined_in(v, where)
            )
            allowed = f"it has {', '.join(public[:12])}" if public else "check the spelling"
            place = f" ({file})" if file else ""
            raise ConfigError([Problem(key, f"{where}{place} has no {name!r}", path, allowed)])
        value = getattr(value, name)
    return value


def is_defined_in(value: type, module: str) -> bool:
    """Return whether the module or package defines this class, rather than importing it from elsewhere."""
    return value.__module__ == module or value.__module__.startswith(module + ".")


def unwrap_user_error(error: Exception) -> Exception:
    """Return the exception of user code that jsonargparse wrapped in a list of every type that it tried."""
    inner: BaseException | None = error
    while inner is not None and _by_jsonargparse(inner):
        inner = inner.__cause__
    return inner if isinstance(inner, Exception) else error


def _by_jsonargparse(error: BaseException) -> bool:
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and "jsonargparse" in Path(frames[-1].filename).parts
