"""How the rows of files and of data loaders are divided into parts, each predicted and committed for itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from torch.utils.data import DataLoader, IterableDataset, SequentialSampler

_LOADER_OPTIONS: Final = (
    *("batch_size", "num_workers", "collate_fn", "pin_memory", "timeout", "worker_init_fn", "multiprocessing_context"),
    *("generator", "prefetch_factor"),
)


@dataclass(frozen=True)
class Part:
    """Rows that are committed together: those from `start` to before `stop` of a file or of a data loader.

    `stop` None is all of a data loader that can't be divided.
    """

    index: int
    source: int
    start: int = 0
    stop: int | None = None

    @property
    def key(self) -> str:
        """The object that has its predictions."""
        return f"part-{self.index:06d}.parquet"


def part_of_loader(loader: Any, part: Part) -> Any:
    """Return a loader of the rows of a part, which loads them as this one does, from the same data set."""
    assert part.stop is not None
    options = {name: getattr(loader, name) for name in _LOADER_OPTIONS}
    return DataLoader(loader.dataset, sampler=range(part.start, part.stop), **options)


def plan_loaders(loaders: Sequence[Any], part_rows: int) -> Iterator[Part]:
    """Yield the parts of data loaders.

    A loader whose data set has no length, or which draws by a sampler or iterates in a way of its own, is one part.

    Args:
        part_rows: how many rows a part has at most, but at least a batch.
    """
    index = 0
    for source, loader in enumerate(loaders):
        for start, stop in _ranges(loader, part_rows):
            yield Part(index, source, start, stop)
            index += 1


def _ranges(loader: Any, part_rows: int) -> list[tuple[int, int | None]]:
    own = not isinstance(loader, DataLoader) or type(loader).__iter__ is not DataLoader.__iter__
    if own or isinstance(loader.dataset, IterableDataset):
        return [(0, None)]
    if loader.batch_size is None or not isinstance(loader.sampler, SequentialSampler):
        return [(0, None)]
    return list(split_rows(len(loader.dataset), part_rows, loader.batch_size))


def split_rows(rows: int, part_rows: int, batch_size: int) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of parts that are whole batches, so that batches are the same however rows are divided."""
    size = max(part_rows // batch_size, 1) * batch_size
    for start in range(0, rows, size):
        yield start, min(start + size, rows)
