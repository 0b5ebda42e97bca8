"""A LightningCLI subclass: its own constructor, trainer class, defaults, added and linked arguments, hooks."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from tests.unit.cli_projects.pieces import Data, Net, OwnTrainer, Probe

DEFAULTS: dict[str, Any] = {"callbacks": [Probe()], "max_epochs": 2, "logger": False}


class LinkedCLI(LightningCLI):
    def __init__(self) -> None:
        super().__init__(Net, Data, trainer_class=OwnTrainer, trainer_defaults=DEFAULTS, seed_everything_default=7)
        self.after = "fitted"

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--task.name", type=str, default="none")
        parser.add_argument("--factor", type=int, required=True)
        parser.add_lightning_class_args(EarlyStopping, "early_stopping")
        parser.set_defaults({"early_stopping.monitor": "loss", "early_stopping.patience": 9, "model.lr": 0.5})
        parser.link_arguments("data.batch_size", "model.batch_size")
        parser.link_arguments(
            ("data.batch_size", "factor"), "model.width", compute_fn=lambda size, factor: size * factor
        )
        parser.link_arguments("data.num_classes", "model.num_classes", apply_on="instantiate")

    def before_instantiate_classes(self) -> None:
        self.task_name = self.config.fit.task.name  # only there with the sub-command


def own() -> None:
    LinkedCLI()
