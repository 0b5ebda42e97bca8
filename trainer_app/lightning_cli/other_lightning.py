"""The package `pytorch_lightning`, beside `lightning`: what is built on it says what to change.

Both are installed with `lightning` 2, their classes are distinct, and a Trainer of one refuses the other's.
"""

from __future__ import annotations

import functools
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jsonargparse import ArgumentParser

from trainer_app.errors import ConfigError, Problem
from trainer_app.user_errors import find_line

_IMPORT = "`import lightning.pytorch as pl` instead of `import pytorch_lightning as pl`"


def pytorch_lightning_problem(key: str, path: str, cls: Any) -> Problem | None:
    """Return the problem of a class built on the package `pytorch_lightning` instead of `lightning`, or None.

    Args:
        key: where the problem is.
        path: the class's import path, as the run file has it.
        cls: what it names; anything but a class has no problem.
    """
    bases = _bases(cls)
    if not bases:
        return None
    if bases[0] is cls:
        instead = path.replace("pytorch_lightning", "lightning.pytorch", 1)
        return Problem(key, "is a class of pytorch_lightning, another package than lightning", path, f"write {instead}")
    message = f"{cls.__name__} is built on pytorch_lightning.{bases[0].__name__}"
    return Problem(key, message, path, f"in {cls.__module__}, {_IMPORT}")


def refuse(cls: type) -> None:
    """Refuse a class that the user's code gave to its LightningCLI, if it is built on pytorch_lightning.

    Raises:
        ConfigError: it is.
    """
    problem = pytorch_lightning_problem("cli", f"{cls.__module__}.{cls.__qualname__}", cls)
    if problem:
        raise ConfigError([problem])


def refuse_argument(error: BaseException) -> None:
    """Refuse the class of pytorch_lightning that a lightning parser did not take, if that is what the error is.

    Raises:
        ConfigError: it is.
    """
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_name == "add_lightning_class_args" and "lightning_class" in frame.f_locals:
            classes = getattr(frame.f_locals["lightning_class"], "__mro__", ())
            # Of a function, Lightning's parser makes a class of its own, below the one that the function returns.
            own = [cls for cls in classes if cls.__module__ != frame.f_globals["__name__"]]
            for cls in own[:1]:
                refuse(cls)


@contextmanager
def without_its_cli() -> Iterator[None]:
    """Refuse a LightningCLI of pytorch_lightning where it makes its parser: user code may import it only inside."""
    original = ArgumentParser.__init__

    @functools.wraps(original)
    def init(self: ArgumentParser, *args: Any, **kwargs: Any) -> None:
        if _bases(type(self)):
            raise ConfigError([_cli_problem()])
        original(self, *args, **kwargs)

    ArgumentParser.__init__ = init
    try:
        yield
    finally:
        ArgumentParser.__init__ = original


def _cli_problem() -> Problem:
    line = find_line([(frame.filename, frame.lineno or 0) for frame in traceback.extract_stack()])
    place = f" ({line})" if line else ""
    message = f"this LightningCLI is pytorch_lightning's, another package than lightning{place}"
    change = "`from lightning.pytorch.cli import LightningCLI` for the one of pytorch_lightning.cli"
    return Problem("cli", message, allowed=f"change every import of pytorch_lightning: {change}, {_IMPORT}")


def _bases(cls: Any) -> list[type]:
    bases = cls.__mro__ if isinstance(cls, type) else ()
    return [base for base in bases if base.__module__.split(".")[0] == "pytorch_lightning"]
