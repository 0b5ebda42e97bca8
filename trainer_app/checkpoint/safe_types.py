"""The types that a checkpoint may always hold: numbers, arrays, dates, containers, settings, enums.

torch loads with weights_only=True by calling the classes that it knows with the arguments in the file. So a type may
stand here if no arguments make it run code, import a module, write, or take bytes for a pointer. Not here: `getattr`,
`functools.partial`, any class of the user's, and NumPy's arrays of objects and of records: `dtype.__setstate__` takes
flags from the file, and without them NumPy 2.4 reads the file's bytes as pointers to objects. For the same reason
`numpy.ndarray` can't be called: its argument `buffer` does that too.
"""

from __future__ import annotations

import argparse
import collections
import copyreg
import datetime
import decimal
import enum
import fractions
import importlib
import importlib.util
import pathlib
import time
import types
import uuid
import zoneinfo
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jsonargparse
import numpy as np
from lightning.fabric.utilities.data import AttributeDict

_PLAIN = (
    *(bool, int, float, complex, str, bytes, list, tuple, dict, frozenset, range, slice),
    *(datetime.date, datetime.time, datetime.datetime, datetime.timedelta, datetime.timezone, zoneinfo.ZoneInfo),
    *(decimal.Decimal, fractions.Fraction, uuid.UUID, time.struct_time),
    *(collections.defaultdict, collections.deque, types.SimpleNamespace, argparse.Namespace),
    *(pathlib.PurePosixPath, pathlib.PureWindowsPath, pathlib.PosixPath, pathlib.WindowsPath),
    *(jsonargparse.Namespace, AttributeDict),
)
_RAW = (np.dtypes.ObjectDType, np.dtypes.VoidDType, np.dtypes.StringDType, np.object_, np.void)
_OMEGACONF = {
    "omegaconf": ("DictConfig", "ListConfig"),
    "omegaconf.base": ("ContainerMetadata", "Metadata"),
    "omegaconf.nodes": (
        *("AnyNode", "StringNode", "IntegerNode", "FloatNode", "BooleanNode", "BytesNode", "PathNode", "EnumNode"),
    ),
    "typing": ("Any",),
}
# Types whose items torch refuses to set one by one, as pickle does: their constructor gets them at once.
_REDUCERS: dict[type, Any] = {
    collections.defaultdict: lambda d: (collections.defaultdict, (d.default_factory, dict(d))),
    collections.deque: lambda d: (collections.deque, (list(d), d.maxlen)),
    AttributeDict: lambda d: (AttributeDict, (dict(d),)),
    zoneinfo.ZoneInfo: lambda z: (zoneinfo.ZoneInfo, (z.key,)),  # pickle's own way is `getattr`
}


def safe_types() -> list[Any]:
    """Return what `torch.serialization.safe_globals` takes, for this process: enums are those that it has imported."""
    dtypes = {value for value in vars(np.dtypes).values() if isinstance(value, type)}
    scalars = {value for value in _subclasses(np.generic) if value.__module__ == "numpy"}
    multiarrays = {"_reconstruct": _empty_array, "scalar": np.float64().__reduce__()[0]}
    return [
        *_PLAIN,
        np.dtype,
        *(dtypes | scalars).difference(_RAW),
        *(
            (call, f"numpy.{core}.multiarray.{name}")
            for core in ("core", "_core")
            for name, call in multiarrays.items()
        ),
        ("ndarray", "numpy.ndarray"),  # the argument of _reconstruct: not the type, which must not be called
        (np.ndarray, "ndarray"),  # the type, whose state may be set; a file's names have a dot, so none is this one
        *(e for e in _subclasses(enum.Enum) if e.__members__),
        (Ellipsis, "builtins.Ellipsis"),
        *_omegaconf(),
    ]


def _empty_array(*_: Any) -> Any:
    """Return what `numpy._core.multiarray._reconstruct` returns for an ndarray; its state follows."""
    return np.empty(0, "b")


@contextmanager
def saved_at_once() -> Iterator[None]:
    """Pickle within the context so that torch can load defaultdicts, deques and time zones; any Python can."""
    before = {cls: copyreg.dispatch_table.get(cls) for cls in _REDUCERS}
    copyreg.dispatch_table.update(_REDUCERS)
    try:
        yield
    finally:
        for cls, reducer in before.items():
            if reducer is None:
                del copyreg.dispatch_table[cls]
            else:
                copyreg.dispatch_table[cls] = reducer


def _subclasses(cls: type) -> set[Any]:
    """Return the classes below `cls` that this process has."""
    direct: list[Any] = cls.__subclasses__()
    return {below for sub in direct for below in (sub, *_subclasses(sub))}


def _omegaconf() -> list[Any]:
    """Return OmegaConf's containers and values, where it is installed."""
    if importlib.util.find_spec("omegaconf") is None:
        return []
    return [getattr(importlib.import_module(module), name) for module, names in _OMEGACONF.items() for name in names]
