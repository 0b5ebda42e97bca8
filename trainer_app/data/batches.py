"""A data set in memory that returns whole batches: one index operation per batch, no Python per item."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

Batch = tuple[Tensor, ...]


@dataclass(frozen=True)
class Normalise:
    """Transform from uint8 images [b, h, w] to float32 [b, 1, h, w], (x / 255 - mean) / std; labels stay unchanged."""

    mean: float
    std: float

    def __call__(self, batch: Batch) -> Batch:
        x = batch[0].unsqueeze(1).float()
        return (x.sub_(255 * self.mean).div_(255 * self.std), *batch[1:])


class BatchedDataset(Dataset[Batch]):
    """Tensors that are indexed together, along their first dimension, the samples.

    torch's DataLoader asks `__getitems__` for a whole batch, so `loader` needs no worker processes. Any sampler works,
    including Lightning's distributed one.

    Args:
        rows: the samples of this split, int64 [m]; None means all. The tensors are not copied.
        transform: from a batch to a batch, on tensors: normalisation, augmentation.
    """

    def __init__(
        self, *tensors: Tensor, rows: Tensor | None = None, transform: Callable[[Batch], Batch] | None = None
    ) -> None:
        if len({len(t) for t in tensors}) != 1:
            raise ValueError(f"tensors must be equally long, found {[len(t) for t in tensors]}")
        self.tensors = tensors
        self.rows = rows
        self.transform = transform

    def __len__(self) -> int:
        return len(self.tensors[0]) if self.rows is None else len(self.rows)

    def __getitems__(self, indices: Sequence[int] | Tensor) -> Batch:
        at = torch.as_tensor(indices)
        if self.rows is not None:
            at = self.rows[at]
        batch = tuple(t[at] for t in self.tensors)
        return batch if self.transform is None else self.transform(batch)

    def __getitem__(self, index: int) -> Batch:
        return tuple(t[0] for t in self.__getitems__([index]))


def collate_batch(batch: Any) -> Any:
    """Return the batch: the collate function of a data set that makes its own batches."""
    return batch


def loader(dataset: BatchedDataset, *, batch_size: int, shuffle: bool = False, **options: Any) -> DataLoader[Batch]:
    """Return a plain DataLoader of whole batches. Any sampler works, including Lightning's distributed one.

    Args:
        dataset: makes the batches.
        batch_size: samples a batch, on each worker.
        shuffle: draw the samples in another order each epoch.
        options: DataLoader's other arguments.
    """
    return DataLoader(dataset, batch_size=batch_size, shuffle=shuffle, collate_fn=collate_batch, **options)


def add_shifted_copies(images: Tensor, labels: Tensor, *, pixels: int) -> tuple[Tensor, Tensor]:
    """Add four copies of the images, moved up, down, left and right.

    Args:
        images: [n, h, w].
        labels: [n].
        pixels: how far they are moved; what enters at an edge is 0.

    Returns:
        Images [5n, h, w] and labels [5n]; the first n are those given.
    """
    padded = functional.pad(images, (pixels, pixels, pixels, pixels))
    height, width = images.shape[1:]
    corners = [(pixels, pixels), (2 * pixels, pixels), (0, pixels), (pixels, 2 * pixels), (pixels, 0)]
    moved = [padded[:, top : top + height, left : left + width] for top, left in corners]
    return torch.cat(moved), labels.repeat(len(moved))


def split_indices(count: int, *, seed: int, held_out: int | None = None) -> tuple[Tensor, Tensor]:
    """Split 0..count-1 into two sorted int64 tensors, [count - held_out] and [held_out]; the same on every rank.

    Args:
        count: number of samples.
        seed: of the permutation.
        held_out: samples of the second tensor; by default 5,000 of 60,000 (Ray's guide, MNIST), else a ninth.

    Raises:
        ValueError: `held_out` is not 1 to `count` - 1.
    """
    if held_out is None:
        held_out = 5_000 if count == 60_000 else max(1, round(count / 9))
    if not 0 < held_out < count:
        raise ValueError(f"held_out must be 1 to {count - 1} of {count} samples, found {held_out}")
    order = np.random.RandomState(seed).permutation(count)  # its stream is frozen (NEP 19)
    return torch.from_numpy(np.sort(order[held_out:])), torch.from_numpy(np.sort(order[:held_out]))
