"""The commonest shape: nothing to name, and code after the fit."""

import multiprocessing
from dataclasses import dataclass

from lightning.pytorch.cli import LightningCLI

from tests.unit.cli_projects.pieces import Data, Net


@dataclass
class Head:
    width: int = 3
    dropout: float = 0.0


class Model(Net):
    class Inner:
        pass

    def __init__(self, batch_size: int = 4, lr: float = 0.01, head: Head | None = None) -> None:
        super().__init__(batch_size, width=head.width if head else 5, lr=lr)


if __name__ == "__main__":
    multiprocessing.set_start_method("fork")
    cli = LightningCLI(Model, Data)
    print(float(cli.trainer.callback_metrics["loss"]))
