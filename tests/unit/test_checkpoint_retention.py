"""Which commits stay."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from trainer_app.checkpoint import Commit, Manifest, download_newest, list_commits, prune, write_commit
from trainer_app.checkpoint.commit import name_commit
from trainer_app.checkpoint.retention import find_surplus
from trainer_app.errors import StorageError
from trainer_app.records.manifest import MANIFEST
from trainer_app.storage import Store, open_store

pytestmark = pytest.mark.unit

NAN = math.nan
MISSING = None


def made(store: Store, *values: float | None, metric: str = "val/acc") -> list[Commit]:
    """Commits of epochs 1, 2, ... with these values of the metric; None: it was not logged."""
    return [
        Commit(name_commit(epoch, epoch, 1), manifest(epoch, value, metric), store)
        for epoch, value in enumerate(values, 1)
    ]


def manifest(epoch: int, value: float | None, metric: str = "val/acc") -> Manifest:
    metrics = {"other": 1.0} if value is None else {metric: value}
    return Manifest(epochs=epoch, step=epoch, attempt=1, world_size=1, time=0.0, metrics=metrics)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "checkpoints"))


# values of epochs 1, 2, ...; keep; mode; the epochs that stay
TABLE: dict[str, tuple[list[float | None], int | None, str | None, list[int]]] = {
    "nothing to delete": ([0.1, 0.2], 2, "max", [1, 2]),
    "best two, max": ([0.1, 0.9, 0.5, 0.8], 2, "max", [2, 4]),
    "best two, min": ([0.1, 0.9, 0.5, 0.8], 2, "min", [1, 3, 4]),
    "the newest stays beside the best": ([0.9, 0.8, 0.7, 0.1], 2, "max", [1, 2, 4]),
    "the newest alone is the best": ([0.1, 0.2, 0.9], 1, "max", [3]),
    "one and the newest": ([0.9, 0.2, 0.1], 1, "max", [1, 3]),
    "no mode is max, as in Ray": ([0.9, 0.2, 0.1], 1, None, [1, 3]),
    "keep all": ([0.1, 0.2, 0.3, 0.4], None, "max", [1, 2, 3, 4]),
    "NaN is the worst, max": ([NAN, 0.1, NAN, 0.2, NAN], 2, "max", [2, 4, 5]),
    "NaN is the worst, min": ([NAN, 0.1, NAN, 0.2, NAN], 2, "min", [2, 4, 5]),
    "missing is the worst": ([MISSING, 0.1, 0.2, MISSING], 1, "min", [2, 4]),
    "all NaN": ([NAN, NAN, NAN], 1, "min", [1, 3]),
    "infinite is a value, max": ([math.inf, 1.0, -math.inf, 0.0], 1, "max", [1, 4]),
    "infinite is a value, min": ([math.inf, 1.0, -math.inf, 0.0], 1, "min", [3, 4]),
    "of equals the earliest, max": ([0.5, 0.5, 0.5, 0.1], 1, "max", [1, 4]),
    "of equals the earliest, min": ([0.5, 0.5, 0.5, 0.9], 1, "min", [1, 4]),
    "of equals the earliest two": ([0.5, 0.7, 0.5, 0.5, 0.1], 2, "max", [1, 2, 5]),
}


@pytest.mark.parametrize("name", TABLE)
def test_the_best_and_the_newest_stay(store: Store, name: str) -> None:
    values, keep, mode, stay = TABLE[name]
    all_of_them = made(store, *values)
    gone = find_surplus(all_of_them, keep=keep, monitor="val/acc", mode=mode)
    assert [c.manifest.epochs for c in all_of_them if c not in gone] == stay
    shuffled = random.Random(1).sample(all_of_them, len(all_of_them))  # the order of the argument does not matter
    assert find_surplus(shuffled, keep=keep, monitor="val/acc", mode=mode) == gone


@pytest.mark.parametrize("keep, stay", [(1, [5]), (2, [4, 5]), (5, [1, 2, 3, 4, 5]), (None, [1, 2, 3, 4, 5])])
def test_without_a_metric_the_latest_stay(store: Store, keep: int | None, stay: list[int]) -> None:
    all_of_them = made(store, 0.9, 0.1, 0.5, 0.3, 0.2)
    gone = find_surplus(all_of_them, keep=keep, monitor=None, mode=None)
    assert [c.manifest.epochs for c in all_of_them if c not in gone] == stay


def test_against_a_plain_account(store: Store) -> None:
    """200 random histories: what stays is the newest and the `keep` first by (metric, age), NaN last."""
    rng = random.Random(3)
    for _ in range(200):
        values = [rng.choice([NAN, None, 0.1, 0.2, 0.3, 0.4, math.inf]) for _ in range(rng.randrange(1, 9))]
        keep, mode = rng.randrange(1, 5), rng.choice(["min", "max"])
        found = made(store, *values)
        number = [NAN if v is None else v if mode == "min" else -v for v in values]
        numbers = sorted((v, i) for i, v in enumerate(number) if not math.isnan(v))
        rank = [i for _, i in numbers] + [i for i, v in enumerate(number) if math.isnan(v)]
        stay = {*rank[:keep], len(values) - 1}
        gone = find_surplus(found, keep=keep, monitor="val/acc", mode=mode)
        assert [i for i, c in enumerate(found) if c not in gone] == sorted(stay), (values, keep, mode)


def written(store: Store, tmp: Path, epoch: int, value: float) -> Commit:
    file = tmp / "payload"
    file.write_bytes(b"x" * epoch)
    return write_commit(store, file, manifest(epoch, value))


def test_a_run_keeps_as_many_as_it_was_told(store: Store, tmp_path: Path) -> None:
    """As a fit goes: after each commit, with what stayed. A newest that is not among the best goes with the next."""
    known: list[Commit] = []
    seen = []
    for epoch, value in enumerate([0.5, 0.3, 0.9, 0.1, 0.2], 1):
        known = prune([*known, written(store, tmp_path, epoch, value)], keep=2, monitor="val/acc", mode="max")
        assert [c.name for c in list_commits(store)] == [c.name for c in known]
        seen.append([c.manifest.epochs for c in known])
    assert seen == [[1], [1, 2], [1, 3], [1, 3, 4], [1, 3, 5]]
    assert len(list(store.list())) == 2 * 3  # nothing is left of those that went


@dataclass
class Dies:
    """A store whose process dies at its n-th deletion."""

    inner: Store
    left: list[int]

    def child(self, prefix: str) -> Dies:
        return Dies(self.inner.child(prefix), self.left)

    def delete(self, key: str) -> None:
        self._count()
        self.inner.delete(key)

    def delete_prefix(self, prefix: str) -> None:
        self._count()
        self.inner.delete_prefix(prefix)

    def _count(self) -> None:
        self.left[0] -= 1
        if self.left[0] < 0:
            raise StorageError("gone")


@pytest.mark.parametrize("deletions, survivors", [(0, [1, 2, 3]), (1, [2, 3]), (2, [2, 3]), (3, [3])])
def test_a_half_deleted_commit_never_counts(store: Store, tmp_path: Path, deletions: int, survivors: list[int]) -> None:
    """Stopped after any number of deletions, what is left are whole commits; the manifest goes first."""
    found = [written(store, tmp_path, epoch, 0.1 * epoch) for epoch in (1, 2, 3)]
    dying: Any = Dies(store, [deletions])
    stay = prune([Commit(c.name, c.manifest, dying) for c in found], keep=1, monitor="val/acc", mode="max")
    assert [c.manifest.epochs for c in stay] == [3, *range(1 + deletions // 2, 3)]  # tried again at the next commit
    assert [c.manifest.epochs for c in list_commits(store)] == survivors
    for folder in Path(store.uri).iterdir():
        names = {file.name for file in folder.iterdir()}
        assert names != {MANIFEST}  # a manifest without its payload would be damage
    newest = download_newest(store, tmp_path / "to", reject=lambda name, why: pytest.fail(why))
    assert newest is not None and newest[0].manifest.epochs == 3
    whole = prune(list_commits(store), keep=1, monitor="val/acc", mode="max")  # the next attempt goes on
    assert [c.manifest.epochs for c in whole] == [c.manifest.epochs for c in list_commits(store)] == [3]


def test_the_furthest_in_training_stays_beside_the_newest(store: Store) -> None:
    """A later attempt that began further back deletes nothing that it has not reached."""
    first = made(store, 0.1, 0.2, 0.3)
    again = [Commit(name_commit(1, 1, 2), manifest(1, 0.9), store)]
    for monitor in ("val/acc", None):
        gone = find_surplus([*first, *again], keep=1, monitor=monitor, mode="max")
        assert [c.name for c in gone] == [c.name for c in first[:2]]
