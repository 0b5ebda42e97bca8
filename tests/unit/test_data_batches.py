"""Batches, splits, augmentation and scikit-learn's digits."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, DistributedSampler

from trainer_app.data import BatchedDataset, Normalise, add_shifted_copies, loader, split_indices
from trainer_app.examples.data.cache import checksum
from trainer_app.examples.data.digits import CHECKSUM, enlarge, read_digits

pytestmark = pytest.mark.unit


def numbered(count: int) -> BatchedDataset:
    return BatchedDataset(torch.arange(count) * 10, torch.arange(count))


def test_a_batch_is_one_call() -> None:
    asked: list[int] = []

    def count(batch: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        asked.append(len(batch[0]))
        return batch

    data = BatchedDataset(torch.arange(10), transform=count)
    assert [b[0].tolist() for b in loader(data, batch_size=4)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert asked == [4, 4, 2]


def test_shuffling_is_torchs_own() -> None:
    """The order of a list-like data set with torch's default collation, from the same seed."""
    torch.manual_seed(7)
    ours = [b[1].tolist() for b in loader(numbered(50), batch_size=8, shuffle=True)]
    torch.manual_seed(7)
    plain = [(i * 10, i) for i in range(50)]
    assert ours == [b[1].tolist() for b in DataLoader(plain, batch_size=8, shuffle=True)]
    assert sorted(sum(ours, [])) == list(range(50)) and sum(ours, []) != list(range(50))


def test_rows_pick_without_copying() -> None:
    data = BatchedDataset(torch.arange(10) * 10, rows=torch.tensor([9, 3, 5]))
    assert len(data) == 3
    assert data.__getitems__([2, 0])[0].tolist() == [50, 90]
    assert data[1][0].item() == 30


def test_lightnings_distributed_sampler_shards_it() -> None:
    seen: list[list[int]] = []
    for rank in range(2):
        sampler: DistributedSampler[int] = DistributedSampler(numbered(11), num_replicas=2, rank=rank, seed=3)
        batches = DataLoader(numbered(11), batch_size=4, sampler=sampler, collate_fn=lambda b: b)
        seen.append(sum((b[1].tolist() for b in batches), []))
    assert [len(s) for s in seen] == [6, 6]
    assert set(seen[0]) | set(seen[1]) == set(range(11)) and len(set(seen[0]) & set(seen[1])) == 1


def test_tensors_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"equally long, found \[3, 4\]"):
        BatchedDataset(torch.arange(3), torch.arange(4))


def test_normalise_is_torchvisions() -> None:
    from torchvision.transforms import Compose, Normalize, ToTensor

    image = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    x, y = Normalise(0.1307, 0.3081)((torch.from_numpy(image[None]), torch.tensor([3])))
    theirs = Compose([ToTensor(), Normalize((0.1307,), (0.3081,))])(image)
    assert x.shape == (1, 1, 28, 28) and x.dtype == torch.float32 and y.tolist() == [3]
    torch.testing.assert_close(x[0], theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("count, held_out", [(60_000, 5_000), (1_617, 180), (90, 10)])
def test_splits_are_disjoint_whole_and_drawn(count: int, held_out: int) -> None:
    train, val = (set(part.tolist()) for part in split_indices(count, seed=0))
    assert len(val) == held_out and not train & val and train | val == set(range(count))
    assert val != set(range(held_out)) and val != set(range(count - held_out, count))


def test_splits_hang_on_their_own_seed_only() -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    first = split_indices(60_000, seed=0)[1]
    torch.manual_seed(2)
    np.random.seed(2)
    assert torch.equal(first, split_indices(60_000, seed=0)[1])
    assert not torch.equal(first, split_indices(60_000, seed=1)[1])
    assert first[:5].tolist() == FROZEN  # whatever numpy is installed, on whatever machine


FROZEN = [17, 28, 50, 66, 72]


@pytest.mark.parametrize("held_out", [0, 10, -1])
def test_a_split_leaves_something_on_both_sides(held_out: int) -> None:
    with pytest.raises(ValueError, match="held_out must be 1 to 9"):
        split_indices(10, seed=0, held_out=held_out)


def test_shifted_moves_each_image_four_ways() -> None:
    image = torch.zeros(2, 5, 5, dtype=torch.uint8)
    image[:, 2, 2], image[:, 0, 0] = 9, 5  # the corner leaves on two sides, and enters nowhere
    moved, labels = add_shifted_copies(image, torch.tensor([1, 7]), pixels=2)
    assert moved.shape == (10, 5, 5) and labels.tolist() == [1, 7] * 5
    assert [(m == 9).nonzero().tolist() for m in moved[::2]] == [[[2, 2]], [[0, 2]], [[4, 2]], [[2, 0]], [[2, 4]]]
    assert [int((m == 5).sum()) for m in moved[::2]] == [1, 0, 1, 0, 1]


def test_digits_are_the_same_everywhere() -> None:
    arrays = read_digits()
    assert checksum(arrays) == CHECKSUM
    assert arrays.train_images.shape == (1_617, 28, 28) and arrays.test_images.shape == (180, 28, 28)
    assert np.bincount(arrays.test_labels).tolist() == [18] * 10


def test_digits_come_without_importing_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "sklearn.datasets", None)
        assert checksum(read_digits()) == CHECKSUM
    monkeypatch.setattr(Path, "is_file", lambda _: False)  # a version that keeps the file elsewhere
    assert checksum(read_digits()) == CHECKSUM


def test_digits_are_all_of_scikit_learns_once_each() -> None:
    from sklearn.datasets import load_digits

    small, labels = load_digits(return_X_y=True)
    wanted = sorted(zip((i.tobytes() for i in enlarge(small.reshape(-1, 8, 8).astype(int))), labels, strict=True))
    arrays = read_digits()
    x = np.concatenate([arrays.train_images, arrays.test_images])
    y = np.concatenate([arrays.train_labels, arrays.test_labels])
    assert sorted(zip((i.tobytes() for i in x), y, strict=True)) == wanted


def test_enlarge_is_bilinear() -> None:
    small = np.random.default_rng(0).integers(0, 17, (3, 8, 8))
    theirs = torch.nn.functional.interpolate(
        torch.from_numpy(small[:, None]).float() * 255 / 16, size=(28, 28), mode="bilinear", align_corners=False
    )
    assert np.abs(enlarge(small) - theirs[:, 0].numpy()).max() <= 0.501
    assert enlarge(np.full((1, 8, 8), 16)).min() == 255
