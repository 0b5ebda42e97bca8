"""RFC 8259 JSON that carries NaN and infinities, and the values of numpy and torch.

Where a field is a number, non-finite values are the strings "nan", "inf" and "-inf". Elsewhere (a trial's parameters,
the resolved configuration) they are {"$float": "nan"}, since a string may be meant there. Both read back as floats.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

from trainer_app.errors import InputError

_NON_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def to_json(value: Any, *, tagged: bool = False, default: Callable[[Any], Any] | None = None) -> bytes:
    """Return one line of ASCII JSON, the only form in which anything here is written or printed for machines.

    Args:
        value: mappings, lists, strings, numbers, booleans and None.
        tagged: write non-finite floats as {"$float": "nan"} instead of "nan".
        default: converts what JSON can't hold; without it a TypeError is raised.
    """
    return json.dumps(encode_floats(value, tagged=tagged), allow_nan=False, default=default).encode()


def from_json(data: bytes) -> Any:
    """Read what `to_json` wrote; an untagged "nan" stays a string, for the reader to convert.

    Raises:
        ValueError: it is not JSON.
    """
    return json.loads(data, object_hook=_untagged)


def encode_floats(value: Any, *, tagged: bool) -> Any:
    """Return the plain value with its non-finite floats as strings or tagged objects."""
    if isinstance(value, float) and not math.isfinite(value):
        name = "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
        return {"$float": name} if tagged else name
    if isinstance(value, Mapping):
        return {str(key): encode_floats(item, tagged=tagged) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [encode_floats(item, tagged=tagged) for item in value]
    return value


def to_plain(value: Any, where: str) -> Any:
    """Return the value as JSON can hold it: numbers of NumPy and torch become Python's, dates strings.

    Args:
        value: a mapping, a list or one value.
        where: its dotted key, for the message.

    Raises:
        InputError: it is, or holds, something else.
    """
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return float(value)  # numpy.float64 is a float
    if isinstance(value, Mapping):
        return {str(key): to_plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item, f"{where}.{number}") for number, item in enumerate(value)]
    if isinstance(value, date):
        return value.isoformat()
    if _is_scalar(value):
        return to_plain(value.item(), where)
    raise InputError(f"{where}: a {type(value).__name__} can't be recorded; give numbers, strings, lists or mappings")


def rename_epoch(document: Any) -> Any:
    """Return a mapping of version 0.1 with its count `epoch` under the name `epochs`; anything else as it is."""
    if not isinstance(document, dict) or "epoch" not in document or "epochs" in document:
        return document
    return {"epochs" if key == "epoch" else key: value for key, value in document.items()}


def _is_scalar(value: Any) -> bool:
    """Return whether the value is one number of NumPy (`size`) or torch (`numel()`); neither is imported here."""
    if not hasattr(value, "item"):
        return False
    return bool((value.numel() if hasattr(value, "numel") else getattr(value, "size", 0)) == 1)


def _untagged(fields: dict[str, Any]) -> Any:
    name = fields.get("$float")
    return _NON_FINITE[name] if len(fields) == 1 and isinstance(name, str) and name in _NON_FINITE else fields
