"""scikit-learn's 1,797 handwritten digits in MNIST's shape: data that needs no download.

Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998; the copy in scikit-learn's
wheel (`sklearn.datasets.load_digits`): 8x8 pixels of 0 to 16.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Final

import numpy as np

from trainer_app.examples.data.idx import SIDE, Arrays, Bytes

CHECKSUM: Final = "sha256:7687c413f7b7722f3ef161b36929a7b24e921869119651543cd069ed92c46569"
TEST: Final = 180


def read_digits() -> Arrays:
    """Return 1,617 images to train and validate, 180 to test: always the same, each digit about equally often."""
    small, labels = _read_packed()
    images = enlarge(small)
    # RandomState's stream is frozen (NEP 19): the same images everywhere, whatever numpy is installed.
    order = np.random.RandomState(0).permutation(len(labels))
    by_label = order[np.argsort(labels[order], kind="stable")]
    test = np.zeros(len(labels), dtype=bool)
    test[by_label[np.linspace(0, len(labels) - 1, TEST).round().astype(int)]] = True
    y = labels.astype(np.uint8)
    return Arrays(images[order[~test[order]]], y[order[~test[order]]], images[test], y[test])


def _read_packed() -> tuple[np.ndarray, np.ndarray]:
    """Return int64 [1797, 8, 8] and [1797] from the file in the wheel: 0.03 s; importing scikit-learn takes 1.4 s."""
    spec = importlib.util.find_spec("sklearn")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder, "datasets/data/digits.csv.gz")
        if path.is_file():
            table = np.loadtxt(path, delimiter=",", dtype=np.int64)
            return table[:, :-1].reshape(-1, 8, 8), table[:, -1]
    from sklearn.datasets import load_digits  # another version may keep it elsewhere

    flat, labels = load_digits(return_X_y=True)
    return flat.reshape(-1, 8, 8).astype(np.int64), labels


def enlarge(small: np.ndarray) -> Bytes:
    """Scale [n, 8, 8] of 0..16 to [n, 28, 28] of 0..255, bilinear.

    In integers: floats that round differently on another CPU would change the checksum.
    """
    weights = np.zeros((SIDE, 8), dtype=np.int64)
    for row in range(SIDE):
        at = 4 * row - 5  # the row's centre on the small grid, in fourteenths: ((row + 0.5) * 8 / 28 - 0.5) * 14
        left = at // 14
        weights[row, min(max(left, 0), 7)] += 14 - at % 14
        weights[row, min(max(left + 1, 0), 7)] += at % 14
    full = 14 * 14 * 16
    large = np.einsum("ri,nij,cj->nrc", weights, small, weights)
    return ((large * 255 + full // 2) // full).astype(np.uint8)
