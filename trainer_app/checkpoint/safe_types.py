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
        *_enums(),
        (Ellipsis, "builtins.Ellipsis"),
        *_omegaconf(),
    ]


def _empty_array(*_: Any) -> Any:
    """Return what `numpy._core.multiarray._reconstruct` returns for an ndarray; its state follows."""
    return np.empty(0, "b")


@contextmanager
def saved_at_once() -> Iterator[None]:
    """Pickle within the context so that torch can load defaultdicts, deques, time zones and enums; any Python can."""
    reducers = {**_REDUCERS, **{cls: _reduce_enum for cls in _enums() if cls.__reduce_ex__ in _own_reducers()}}
    before = {cls: copyreg.dispatch_table.get(cls) for cls in reducers}
    copyreg.dispatch_table.update(reducers)
    try:
        yield
    finally:
        for cls, reducer in before.items():
            if reducer is None:
                del copyreg.dispatch_table[cls]
            else:
                copyreg.dispatch_table[cls] = reducer


def _enums() -> list[Any]:
    """Return the enums that this process has imported."""
    return [cls for cls in _subclasses(enum.Enum) if cls.__members__]


def _own_reducers() -> tuple[Any, ...]:
    """Return Python's ways to pickle an enum, which in 3.11.2, the image's, are `getattr` and `operator.or_`."""
    return enum.Enum.__reduce_ex__, enum.Flag.__reduce_ex__


def _reduce_enum(member: enum.Enum) -> tuple[Any, ...]:
    """Pickle a member by its value, as newer Pythons do (3.11.7)."""
    return type(member), (member._value_,)


def _subclasses(cls: type) -> set[Any]:
    """Return the classes below `cls` that this process has."""
    direct: list[Any] = cls.__subclasses__()
    return {below for sub in direct for below in (sub, *_subclasses(sub))}


def _omegaconf() -> list[Any]:
    """Return OmegaConf's containers and values, where it is installed."""
    if importlib.util.find_spec("omegaconf") is None:
        return []
    return [getattr(importlib.import_module(module), name) for module, names in _OMEGACONF.items() for name in names]
