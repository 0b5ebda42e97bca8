"""Every kind of type that jsonargparse reads, in files by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jsonargparse.typing import Path_fr
from lightning.pytorch.cli import LightningCLI, OptimizerCallable

from tests.unit.cli_projects.pieces import Data, Net


@dataclass
class Sizes:
    width: int = 4
    names: list[str] = field(default_factory=list)


class Encoder(torch.nn.Module):
    def __init__(self, depth: int = 1) -> None:
        super().__init__()
        self.depth = depth


class Typed(Net):
    def __init__(
        self,
        labels: Path_fr,
        encoder: Encoder,
        sizes: Sizes | None = None,
        either: int | list[int] | None = None,
        mode: Literal["a", "b"] = "a",
        make_optimizer: OptimizerCallable = torch.optim.SGD,
        batch_size: int = 4,
    ) -> None:
        super().__init__(batch_size, width=(sizes or Sizes()).width)
        self.read = open(labels).read()  # noqa: SIM115
        self.seen: Any = (encoder.depth, sizes, either, mode)
        self.make_optimizer = make_optimizer

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.make_optimizer(self.parameters())


def typed(labels: Path_fr, depth: int = 2) -> Typed:
    """Make a model: a factory that a class_path names."""
    return Typed(labels, Encoder(depth))


class Plain(Net):
    """Another model for subclass mode."""


if __name__ == "__main__":
    LightningCLI(Net, Data, subclass_mode_model=True, trainer_defaults={"max_epochs": 1, "logger": False})
