"""MNIST's file format: what is read, and each way in which a file can be damaged."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.unit.idx_files import FASHION, NO_FASHION, TEST, TRAIN, images, packed, write_set
from trainer_app.examples.data import choose
from trainer_app.examples.data.cache import checksum
from trainer_app.examples.data.idx import NAMES, DataError, read_folder, read_idx
from trainer_app.examples.data.sources import find_files

pytestmark = pytest.mark.unit
IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


@pytest.mark.parametrize("gz", [False, True])
def test_reads_what_was_written(tmp_path: Path, gz: bool) -> None:
    files = find_files(write_set(tmp_path, gz=gz), ("",))
    assert files
    arrays = read_folder(files)
    assert np.array_equal(arrays.train_images, images(TRAIN, 0))
    assert np.array_equal(arrays.test_images, images(TEST, 1000))
    assert arrays.train_labels[:12].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    assert {a.dtype for a in vars(arrays).values()} == {np.dtype(np.uint8)}


def flip(data: bytes) -> bytes:
    """One bit of a pixel."""
    return data[:-100] + bytes([data[-100] ^ 1]) + data[-99:]


IDX = packed(images(TRAIN, 0))
BROKEN: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "it begins with 0x;"),
    "a page that a proxy sent": (b"<html>503</html>", "it begins with 0x3c68746d"),
    "another type": (b"\0\0\x0d\x03" + IDX[4:], "it begins with 0x00000d03"),
    "ends in the header": (IDX[:9], "ends inside its header"),
    "cut short": (IDX[:-1], f"promises {TRAIN * 784} values, it holds {TRAIN * 784 - 1}"),
    "too long": (IDX + b"\0", "it holds more"),
    "a header of gigabytes": (struct.pack(">4I", 0x803, 2**31, 28, 28) + IDX[16:], "promises"),
    "other sides": (packed(images(TRAIN, 0).reshape(-1, 14, 56)), "not (n, 28, 28)"),
    "no images": (packed(images(0, 0)), "labels for 0 images"),
    "fewer images than labels": (packed(images(TRAIN - 1, 0)), f"labels for {TRAIN - 1} images"),
    "labels in its place": (packed(np.zeros(TRAIN, dtype=np.uint8)), "not (n, 28, 28)"),
}


@pytest.mark.parametrize("gz", [False, True])
@pytest.mark.parametrize("kind", BROKEN)
def test_a_damaged_file_is_one_line_that_names_it(tmp_path: Path, kind: str, gz: bool) -> None:
    data, reason = BROKEN[kind]
    path = write_set(tmp_path, gz=gz) / (f"{IMAGES}.gz" if gz else IMAGES)
    path.write_bytes(gzip.compress(data) if gz else data)
    message = refused(tmp_path)
    assert reason in message
    assert str(tmp_path) in message and "\n" not in message


@pytest.mark.parametrize("damage", [lambda d: d[:-30], flip, lambda d: d[:8]], ids=["cut", "flipped", "header"])
def test_a_damaged_packed_file_is_one_line_that_names_it(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = write_set(tmp_path, gz=True) / f"{IMAGES}.gz"
    path.write_bytes(damage(path.read_bytes()))
    message = refused(tmp_path)
    assert f"{path}: not a complete IDX file" in message and "\n" not in message


def test_labels_above_nine_are_refused(tmp_path: Path) -> None:
    write_set(tmp_path)
    (tmp_path / LABELS).write_bytes(packed(np.arange(TRAIN, dtype=np.uint8) % 11))
    assert "labels must be 0 to 9" in refused(tmp_path)


def test_a_file_that_cannot_be_read_is_not_called_damaged(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"idx: cannot be read: No such file") as e:
        read_idx(tmp_path / "idx")
    assert e.value.exit_code == 2


def test_the_real_fashion_mnist() -> None:
    if not FASHION.is_dir():
        pytest.skip(NO_FASHION)
    files = find_files(FASHION, ("",))
    assert files and set(files) == set(NAMES)
    arrays = read_folder(files)
    assert arrays.train_images.shape == (60_000, 28, 28) and arrays.test_images.shape == (10_000, 28, 28)
    assert np.bincount(arrays.train_labels).tolist() == [6_000] * 10
    assert arrays.train_labels[:5].tolist() == [9, 0, 0, 3, 0]
    assert abs(arrays.train_images.mean() / 255 - 0.28604) < 1e-5
    assert checksum(arrays) == choose.FASHION_MNIST_CHECKSUM


def refused(folder: Path) -> str:
    files = find_files(folder, ("",))
    assert files
    with pytest.raises(DataError) as e:
        read_folder(files)
    return str(e.value)
