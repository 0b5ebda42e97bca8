"""MNIST's file format, read and verified.

Source: the format is described at the end of http://yann.lecun.com/exdb/mnist/: two zero bytes, the type (0x08 is
unsigned byte), the number of dimensions, each dimension as a big-endian 32-bit integer, then the values.
"""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import numpy.typing as npt

from trainer_app.errors import InputError

NAMES: Final = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}
SIDE: Final = 28
CLASSES: Final = 10
MOST_ITEMS: Final = 10_000_000

Bytes = npt.NDArray[np.uint8]


class DataError(InputError):
    """Data that is missing, damaged, or not the data that the run started with."""


@dataclass(frozen=True)
class Arrays:
    """A classification set of small grey images, with its own test set.

    train_images, test_images: uint8 [n, 28, 28], 0 (background) to 255; train_labels, test_labels: uint8 [n], 0 to 9.
    """

    train_images: Bytes
    train_labels: Bytes
    test_images: Bytes
    test_labels: Bytes


def read_idx(path: Path) -> Bytes:
    """Return the values of an IDX file of unsigned bytes, gzip-packed if its name ends in .gz.

    Raises:
        DataError: it is damaged or can't be read.
    """
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as stream:
            return _parse_idx(stream, path)
    except (gzip.BadGzipFile, EOFError, zlib.error) as e:
        raise _damaged_file(path, str(e)) from e
    except OSError as e:
        raise DataError(f"{path}: cannot be read: {e.strerror or e}") from e


def read_folder(files: dict[str, Path]) -> Arrays:
    """Read the four files, by the keys of NAMES, and check them against each other.

    Raises:
        DataError: one is damaged, or they don't fit together.
    """
    arrays = {key: read_idx(files[key]) for key in NAMES}
    for part in ("train", "test"):
        images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"]
        if images.shape[1:] != (SIDE, SIDE):
            raise _damaged_file(files[f"{part}_images"], f"its shape is {images.shape}, not (n, {SIDE}, {SIDE})")
        if labels.shape != images.shape[:1]:
            raise _damaged_file(files[f"{part}_labels"], f"{labels.shape} labels for {len(images)} images")
        if not len(labels) or labels.max() >= CLASSES:
            raise _damaged_file(files[f"{part}_labels"], f"labels must be 0 to {CLASSES - 1}, and at least one")
    return Arrays(**arrays)


def _parse_idx(stream: BinaryIO | gzip.GzipFile, path: Path) -> Bytes:
    magic = stream.read(4)
    if len(magic) < 4 or magic[:3] != b"\0\0\x08" or magic[3] not in (1, 3):
        raise _damaged_file(
            path, f"it begins with 0x{magic.hex()}; an IDX file begins with 0x00000801 (labels) or 0x00000803"
        )
    header = stream.read(4 * magic[3])
    if len(header) < 4 * magic[3]:
        raise _damaged_file(path, "it ends inside its header")
    shape = tuple(int(n) for n in np.frombuffer(header, dtype=">u4"))
    size = int(np.prod(shape, dtype=object))
    if shape[0] > MOST_ITEMS or size > MOST_ITEMS * SIDE * SIDE:
        raise _damaged_file(path, f"its header promises {shape}")
    data = stream.read(size + 1)  # one more, so that trailing bytes are seen and a packed file's CRC is checked
    if len(data) != size:
        count = "more" if len(data) > size else str(len(data))
        raise _damaged_file(path, f"its header promises {size} values, it holds {count}")
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)


def _damaged_file(path: Path, why: str) -> DataError:
    return DataError(f"{path}: not a complete IDX file: {why}; fetch it again")
