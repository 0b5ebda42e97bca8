from dataclasses import dataclass

import lightning as L
import torch
from torch.utils.data import DataLoader, TensorDataset


@dataclass
class SpiralOptions:
    arms: int = 3
    points: int = 100
    noise: float = 0.1


class Spirals(L.LightningDataModule):
    def __init__(self, options: SpiralOptions = SpiralOptions(), batch_size: int = 32):
        super().__init__()
        self.options = options
        self.batch_size = batch_size

    def setup(self, stage):
        o, random = self.options, torch.Generator().manual_seed(11)
        radius = torch.rand(o.arms, o.points, generator=random)
        turn = 4 * radius + 6.2832 * torch.arange(o.arms).unsqueeze(1) / o.arms
        turn = turn + o.noise * torch.randn(turn.shape, generator=random)
        x = torch.stack([radius * turn.cos(), radius * turn.sin()], -1).reshape(-1, 2)
        y = torch.arange(o.arms).repeat_interleave(o.points)
        order = torch.randperm(len(y), generator=random)
        cut = int(0.8 * len(y))
        self.train = TensorDataset(x[order[:cut]], y[order[:cut]])
        self.val = TensorDataset(x[order[cut:]], y[order[cut:]])

    def train_dataloader(self):
        return DataLoader(self.train, batch_size=self.batch_size, shuffle=True, pin_memory=False)

    def val_dataloader(self):
        return DataLoader(self.val, batch_size=self.batch_size)
