"""What a checkpoint may hold, what is refused, and that a file can't make NumPy take bytes for pointers."""

from __future__ import annotations

import argparse
import collections
import datetime
import decimal
import enum
import fractions
import io
import pathlib
import pickle
import types
import uuid
import zoneinfo
from pathlib import Path
from typing import Any

import jsonargparse
import numpy as np
import pytest
import torch
from lightning.fabric.utilities.data import AttributeDict
from torch.distributed.checkpoint import metadata

from trainer_app.checkpoint.loading import allow_globals, check_loadable, check_savable, load_checkpoint
from trainer_app.checkpoint.safe_types import saved_at_once
from trainer_app.errors import TrainerError

pytestmark = pytest.mark.unit
HERE = "tests.unit.test_checkpoint_loading"


class Color(enum.Enum):
    RED = "red"


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Odd:
    class Inner:
        pass


class Odder:
    pass


HELD: dict[str, Any] = {
    "float64": np.float64("inf"),
    "float16": np.float16(1.5),
    "int64": np.int64(3),
    "bool": np.bool_(True),
    "complex": np.complex64(1j),
    "datetime64": np.datetime64("2020-01-01"),
    "str_": np.str_("a"),
    "array": np.arange(6).reshape(2, 3),
    "Fortran's order": np.asfortranarray(np.eye(2)),
    "strings": np.array(["ab", "c"]),
    "booleans": np.array([True, False]),
    "dates": np.array(["2020-01-01"], dtype="datetime64[D]"),
    "dtype": np.dtype("float32"),
    "scalar type": np.float32,
    "datetime": datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC),
    "date": datetime.date(2020, 1, 2),
    "time": datetime.time(3),
    "timedelta": datetime.timedelta(1),
    "time zone": datetime.datetime(2020, 1, 2, tzinfo=zoneinfo.ZoneInfo("UTC")),
    "Decimal": decimal.Decimal("1.5"),
    "Fraction": fractions.Fraction(1, 3),
    "OrderedDict": collections.OrderedDict(a=1),
    "defaultdict": collections.defaultdict(list, {"a": [1]}),
    "defaultdict of defaultdict": collections.defaultdict(int, {"a": collections.defaultdict(float)}),
    "Counter": collections.Counter("aab"),
    "deque": collections.deque([1, 2], 3),
    "frozenset": frozenset([1]),
    "range": range(3),
    "slice": slice(1, 2),
    "argparse": argparse.Namespace(a=1, b=argparse.Namespace(c=2)),
    "SimpleNamespace": types.SimpleNamespace(a=1),
    "jsonargparse": jsonargparse.Namespace(a=1),
    "AttributeDict": AttributeDict(a=1),
    "path": pathlib.Path("/a/b"),
    "pure path": pathlib.PureWindowsPath("a"),
    "user's enum": Color.RED,
    "user's flags": Access.READ | Access.WRITE,
    "UUID": uuid.UUID(int=3),
    "type": int,
    "Ellipsis": ...,
}


@pytest.mark.parametrize("name", HELD)
def test_held_without_a_word(name: str, tmp_path: Path) -> None:
    """As in a commit: saved, and loaded with weights_only=True; any Python reads it too, without this package."""
    value, path = {"value": [HELD[name], HELD[name]]}, tmp_path / "c.ckpt"
    with saved_at_once():
        torch.save(value, path)
    check_loadable(path, ())
    for loaded in (load_checkpoint(path)["value"][1], torch.load(path, weights_only=False)["value"][1]):
        assert type(loaded) is type(HELD[name])
        assert np.array_equal(loaded, HELD[name]) if isinstance(loaded, np.ndarray) else loaded == HELD[name]
        assert getattr(loaded, "default_factory", None) is getattr(HELD[name], "default_factory", None)
        assert getattr(loaded, "maxlen", None) == getattr(HELD[name], "maxlen", None)


def old_reduce_ex(member: enum.Enum, _: int) -> tuple[Any, ...]:
    """How Python 3.11.2 pickles an enum, whose image it is: a file that torch and `load_metadata` refuse."""
    return getattr, (type(member), member.name)


@pytest.mark.parametrize("member", [Color.RED, Access.READ | Access.WRITE, metadata._MEM_FORMAT_ENCODING(0)], ids=repr)
def test_enums_of_an_older_python_are_saved_by_their_value(
    member: enum.Enum, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for owner in (enum.Enum, enum.Flag):
        monkeypatch.setattr(owner, "__reduce_ex__", old_reduce_ex)
    path = tmp_path / "c.ckpt"
    with saved_at_once():
        torch.save({"value": member}, path)
        assert b"getattr" not in pickle.dumps(member)  # as torch.distributed.checkpoint writes its metadata
    check_loadable(path, ())
    assert load_checkpoint(path)["value"] is member
    assert b"getattr" in pickle.dumps(Color.RED)


def test_all_refused_classes_are_in_one_line_that_can_be_pasted(tmp_path: Path) -> None:
    state = {"weight": torch.ones(3), "a": Odd(), "b": [Odder(), np.float64(1)], "c": Odd()}
    with pytest.raises(TrainerError) as refused:
        check_savable(state, tmp_path / "c.ckpt", [f"{HERE}.Color"])
    text = str(refused.value)
    assert "\n" not in text
    assert text.endswith(f"checkpoint.allow: [{HERE}.Color, {HERE}.Odd, {HERE}.Odder]")
    check_savable(state, tmp_path / "c.ckpt", [f"{HERE}.Odd", f"{HERE}.Odder"])


def test_what_could_call_anything_is_not_offered(tmp_path: Path) -> None:
    with pytest.raises(TrainerError, match=r"builtins\.getattr is how Python pickles .* can't be allowed") as refused:
        check_savable({"a": Odd.Inner}, tmp_path / "c.ckpt", [])
    assert "checkpoint.allow" not in str(refused.value)


def test_what_cannot_be_pickled_says_so(tmp_path: Path) -> None:
    with pytest.raises(TrainerError, match=r"^the checkpoint can't be saved: .*lambda.*; keep it out of hyper"):
        check_savable({"a": lambda: 1}, tmp_path / "c.ckpt", [])


def test_a_type_that_torch_cannot_fill_says_so(tmp_path: Path) -> None:
    """Arrays of objects: their type's state decides how their bytes are read."""
    with pytest.raises(TrainerError, match=r"can't load the checkpoint: .*ObjectDType.*; keep it out of") as refused:
        check_savable({"a": np.array([None, 1], dtype=object)}, tmp_path / "c.ckpt", [])
    assert "\n" not in str(refused.value)


class Call:
    """Pickles as a call of `function`, and then as its state."""

    def __init__(self, function: Any, *args: Any, state: Any = None) -> None:
        self.reduced = (function, args, state) if state is not None else (function, args)

    def __reduce__(self) -> Any:
        return self.reduced


RECORD = {"a": (np.dtype("O"), 0)}
EVIL: dict[str, Any] = {
    "an array over a buffer": Call(np.ndarray, (1,), np.dtype("float64"), b"\1" * 8),
    "objects without their flags": Call(np.dtype, "O8", False, True, state=(3, "|", None, None, None, -1, -1, 0)),
    "records without their flags": Call(np.dtype, "V8", False, True, state=(3, "|", None, ("a",), RECORD, 8, 1, 0)),
    "a call": Call(eval, "1 + 1"),
    "an import": Call(__import__, "os"),
    "getattr": Call(getattr, "a", "upper"),
}


@pytest.mark.parametrize("name", EVIL)
def test_a_file_made_to_run_or_to_point_is_refused(name: str) -> None:
    file = io.BytesIO()
    torch.save({"value": EVIL[name]}, file)
    file.seek(0)
    with allow_globals(()), pytest.raises((pickle.UnpicklingError, TypeError)):
        torch.load(file, weights_only=True)


def test_the_users_own_safe_globals_stay() -> None:
    torch.serialization.add_safe_globals([Odd])
    try:
        with allow_globals((f"{HERE}.Odd",)):
            with allow_globals(()):
                pass
            assert np.dtype in torch.serialization.get_safe_globals()
        assert Odd in torch.serialization.get_safe_globals()
        assert np.dtype not in torch.serialization.get_safe_globals()
    finally:
        torch.serialization.clear_safe_globals()
