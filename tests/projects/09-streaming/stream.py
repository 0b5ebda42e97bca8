import glob

import lightning as L
import torch
import torch.distributed as dist
from torch.utils.data import DataLoader, IterableDataset, get_worker_info


class Lines(IterableDataset):
    """Rows of CSV files, read while they are needed; each process and each loader's worker reads its share of them."""

    def __init__(self, pattern, first=0, last=None):
        self.files = sorted(glob.glob(pattern))[first:last]
        if not self.files:
            raise FileNotFoundError(f"no file matches {pattern}")

    def __iter__(self):
        info = get_worker_info()
        workers, worker = (info.num_workers, info.id) if info else (1, 0)
        ranks, rank = (dist.get_world_size(), dist.get_rank()) if dist.is_initialized() else (1, 0)
        for number, line in enumerate(self.lines()):
            if number % (ranks * workers) == rank * workers + worker:
                values = torch.tensor([float(value) for value in line.split(",")])
                yield values[:-1], values[-1:]

    def lines(self):
        for file in self.files:
            with open(file) as lines:
                yield from lines


class LineData(L.LightningDataModule):
    def __init__(self, pattern: str = "lines/*.csv", batch_size: int = 16, num_workers: int = 1):
        super().__init__()
        self.pattern, self.batch_size, self.num_workers = pattern, batch_size, num_workers

    def train_dataloader(self):
        return DataLoader(Lines(self.pattern, last=-1), batch_size=self.batch_size, num_workers=self.num_workers)

    def val_dataloader(self):
        return DataLoader(Lines(self.pattern, first=-1), batch_size=self.batch_size)
