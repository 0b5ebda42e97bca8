"""RFC 8259 JSON that carries NaN and infinities, and the values of numpy and torch.

Where a field is a number, non-finite values are the strings "nan", "inf" and "-inf". Elsewhere (a trial's parameters,
the resolved configuration) they are {"$float": "nan"}, since a string may be meant there. Both read back as floats.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import date
from typing import Any

from trainer_app.errors import InputError

_NON_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def to_json(value: Any, *, tagged: bool = False) -> bytes:
    """One line of JSON; non-finite floats as {"$float": "nan"} if `tagged`, else as "nan"."""
    text = json.dumps(encoded(value, tagged=tagged), ensure_ascii=False, allow_nan=False)
    return text.encode(errors="backslashreplace")  # half a surrogate pair (a file name in an error) as JSON's escape


def from_json(data: bytes) -> Any:
    """Reads what `to_json` wrote; a "nan" without tag is left to the reader: float("nan"). Raises ValueError."""
    return json.loads(data, object_hook=_untagged)


def encoded(value: Any, *, tagged: bool) -> Any:
    """The plain value with its non-finite floats as strings or tagged objects."""
    if isinstance(value, float) and not math.isfinite(value):
        name = "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
        return {"$float": name} if tagged else name
    if isinstance(value, Mapping):
        return {key: encoded(item, tagged=tagged) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [encoded(item, tagged=tagged) for item in value]
    return value


def plain(value: Any, where: str) -> Any:
    """The value as JSON can hold it: numbers of numpy and torch become Python's, dates text. Else InputError."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return float(value)  # numpy.float64 is a float
    if isinstance(value, Mapping):
        return {str(key): plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, f"{where}.{number}") for number, item in enumerate(value)]
    if isinstance(value, date):
        return value.isoformat()
    if _is_scalar(value):
        return plain(value.item(), where)
    raise InputError(f"{where}: a {type(value).__name__} can't be recorded; give numbers, text, lists or mappings")


def rename_epoch(document: Any) -> Any:
    """Return a mapping of version 0.1 with its count `epoch` under the name `epochs`; anything else as it is."""
    if not isinstance(document, dict) or "epoch" not in document or "epochs" in document:
        return document
    return {"epochs" if key == "epoch" else key: value for key, value in document.items()}


def _is_scalar(value: Any) -> bool:
    """Of numpy (`size`) or torch (`numel()`), of one element; neither is imported here."""
    if not hasattr(value, "item"):
        return False
    return bool((value.numel() if hasattr(value, "numel") else getattr(value, "size", 0)) == 1)


def _untagged(found: dict[str, Any]) -> Any:
    name = found.get("$float")
    return _NON_FINITE[name] if len(found) == 1 and isinstance(name, str) and name in _NON_FINITE else found
