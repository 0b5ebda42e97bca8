"""IDX files for tests, written from the format's description and not with our reader's constants."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np

TRAIN, TEST = 90, 20
FASHION = Path("/usr/share/datasets/fashion-mnist")
NO_FASHION = "needs dataset-fashion-mnist: apt-get install dataset-fashion-mnist"


def images(count: int, seed: int) -> np.ndarray:
    """uint8 [count, 28, 28]."""
    return np.random.default_rng(seed).integers(0, 256, (count, 28, 28), dtype=np.uint8)


def labels(count: int) -> np.ndarray:
    """0..9 in turn."""
    return np.arange(count, dtype=np.uint8) % 10


def packed(array: np.ndarray) -> bytes:
    """An IDX file's bytes."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_set(folder: Path, *, gz: bool = False, seed: int = 0) -> Path:
    """The four files of a small set, with other pixels for another seed."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = {
        "train-images-idx3-ubyte": images(TRAIN, seed),
        "train-labels-idx1-ubyte": labels(TRAIN),
        "t10k-images-idx3-ubyte": images(TEST, seed + 1000),
        "t10k-labels-idx1-ubyte": labels(TEST),
    }
    for name, array in parts.items():
        data = packed(array)
        (folder / (f"{name}.gz" if gz else name)).write_bytes(gzip.compress(data) if gz else data)
    return folder
