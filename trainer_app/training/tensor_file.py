"""Files of tensors in the format safetensors (https://github.com/huggingface/safetensors, format 0.1).

Eight bytes with the header's length, the header as JSON, then each tensor's bytes. Written here: an export needs no
further package.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch

from trainer_app.errors import TrainerError
from trainer_app.records.plain_json import to_json

DTYPES: Final = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def write(tensors: Mapping[str, Any], path: Path, about: Mapping[str, str]) -> None:
    """Write tensors.

    Args:
        tensors: by name; tensors that share memory are written once each.
        path: of the file.
        about: what else the header says.

    Raises:
        TrainerError: one is no tensor, or of a type that the format does not have.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt", **about}}
    offset = 0
    for name, tensor in tensors.items():
        kind = DTYPES.get(tensor.dtype) if isinstance(tensor, torch.Tensor) else None
        if kind is None:
            what = getattr(tensor, "dtype", type(tensor).__name__)
            raise TrainerError(f"safetensors: {name} is {what}, which the format does not have; use state-dict")
        end = offset + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = to_json(header)
    text += b" " * (-len(text) % 8)  # the data begins at a multiple of 8
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            file.write(_bytes(tensor))


def read(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a file."""
    data = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    types = {name: dtype for dtype, name in DTYPES.items()}
    tensors = {}
    for name, at in header.items():
        first, _ = at["data_offsets"]
        count = math.prod(at["shape"])
        whole = torch.frombuffer(data, dtype=types[at["dtype"]], count=count, offset=start + first) if count else None
        tensors[name] = torch.empty(at["shape"], dtype=types[at["dtype"]]) if whole is None else whole.view(at["shape"])
    return tensors


def _bytes(tensor: torch.Tensor) -> bytes:
    assert sys.byteorder == "little"
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
