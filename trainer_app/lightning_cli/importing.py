"""Imports of user code, with failures that a person can act on."""

from __future__ import annotations

import importlib
import os
import sys
import sysconfig
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from trainer_app.errors import ConfigError, Problem

_WRITE = "write package.module.Name"
_NOT_USERS = (sysconfig.get_paths()["stdlib"], str(Path(__file__).parent))


def add_import_paths(*folders: str | Path) -> None:
    """Puts the working directory, then `folders`, at the front of `sys.path`, once.

    The working directory is there as with `python -m`: the console script `trainer` would have its own folder there.
    """
    wanted = [str(Path(folder).absolute()) for folder in (".", *folders)]
    for folder in reversed(wanted):
        if folder not in sys.path and not (folder == wanted[0] and "" in sys.path):
            sys.path.insert(0, folder)


def load_object(key: str, path: str) -> Any:
    """The object that `package.module:name` or `package.module.name` names.

    Raises:
        ConfigError: it can't be imported, or user code raises at import; the one problem has `key`.
    """
    if not all(part.isidentifier() for part in path.replace(":", ".").split(".")):
        raise ConfigError([Problem(key, "not an import path", path, _WRITE)])
    module_name, colon, names = path.partition(":")
    if colon:
        return _get_attribute(key, path, _import_module(key, module_name), names.split("."))
    parts = path.split(".")
    if len(parts) < 2:
        raise ConfigError([Problem(key, "not an import path", path, _WRITE)])
    found = _import_module(key, parts[0])
    for cut in range(2, len(parts)):
        name = ".".join(parts[:cut])
        # A class in the middle is an attribute of the module before it: a nested class, a classmethod.
        if isinstance(getattr(found, parts[cut - 1], None), type) and not hasattr(found, "__path__"):
            return _get_attribute(key, path, found, parts[cut - 1 :])
        found = _import_module(key, name)
    return _get_attribute(key, path, found, parts[-1:])


def _import_module(key: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            hint = f"is its folder the working directory ({Path.cwd()}) or on PYTHONPATH?"
            raise ConfigError([Problem(key, f"no module named {error.name!r}", name, hint)]) from error
        raise ConfigError([_import_problem(key, name, error, "install it in this environment")]) from error
    except SystemExit as error:
        hint = 'guard what the script runs with `if __name__ == "__main__":`'
        raise ConfigError([_import_problem(key, name, error, hint)]) from error
    except Exception as error:
        raise ConfigError([_import_problem(key, name, error, "")]) from error


def _import_problem(key: str, name: str, error: BaseException, hint: str) -> Problem:
    return Problem(key, f"importing {name} raised {describe_error(error)}", allowed=hint)


def _get_attribute(key: str, path: str, found: Any, names: list[str]) -> Any:
    for name in names:
        if not hasattr(found, name):
            where = getattr(found, "__name__", str(found))
            file = getattr(found, "__file__", None)
            public = sorted(
                n for n, v in vars(found).items() if isinstance(v, type) and n[0] != "_" and is_defined_in(v, where)
            )
            allowed = f"it has {', '.join(public[:12])}" if public else "check the spelling"
            place = f" ({file})" if file else ""
            raise ConfigError([Problem(key, f"{where}{place} has no {name!r}", path, allowed)])
        found = getattr(found, name)
    return found


def is_defined_in(value: type, module: str) -> bool:
    """Whether a module defines this class, or its package does, rather than importing it from elsewhere."""
    return value.__module__ == module or value.__module__.startswith(module + ".")


def describe_error(error: BaseException) -> str:
    """`ValueError: boom (file.py:12)`: the last line of user code that was on the way to the error."""
    text = " ".join(str(error).split()) or "no message"
    if isinstance(error, SyntaxError) and error.filename:
        return f"{type(error).__name__}: {error.msg} ({error.filename}:{error.lineno})"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<frozen")]
    users = [f for f in frames if not f.filename.startswith(_NOT_USERS) and not _in_site_packages(f)]
    place = f" ({(users or frames)[-1].filename}:{(users or frames)[-1].lineno})" if users or frames else ""
    return f"{type(error).__name__}: {text}{place}"


def _in_site_packages(frame: traceback.FrameSummary) -> bool:
    return f"{os.sep}site-packages{os.sep}" in frame.filename


def unwrap_user_error(error: Exception) -> Exception:
    """The exception of user code that jsonargparse wrapped in its account of every type that it tried."""
    inner: BaseException | None = error
    while inner is not None and _by_jsonargparse(inner):
        inner = inner.__cause__
    return inner if isinstance(inner, Exception) else error


def _by_jsonargparse(error: BaseException) -> bool:
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and "jsonargparse" in Path(frames[-1].filename).parts


def pytorch_lightning_problem(key: str, path: str, found: Any) -> Problem | None:
    """The one line for a class that is built on the distribution `pytorch_lightning` instead of `lightning`.

    Both are installed with `lightning` 2, their classes are distinct, and a Trainer of the one refuses the other's.
    """
    if not isinstance(found, type):
        return None
    bases = [base for base in found.__mro__ if base.__module__.split(".")[0] == "pytorch_lightning"]
    if not bases:
        return None
    if bases[0] is found:
        said = path.replace("pytorch_lightning", "lightning.pytorch", 1)
        return Problem(key, "is a class of pytorch_lightning, another package than lightning", path, f"write {said}")
    change = f"in {found.__module__}, `import lightning.pytorch as pl` instead of `import pytorch_lightning as pl`"
    return Problem(key, f"{found.__name__} is built on pytorch_lightning.{bases[0].__name__}", path, change)
