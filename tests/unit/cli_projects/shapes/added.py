"""Arguments of classes, defaults, links and optimizers that a CLI adds."""

from __future__ import annotations

from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from tests.unit.cli_projects.pieces import Data, Net


class AddedCLI(LightningCLI):
    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_lightning_class_args(ModelCheckpoint, "ckpt")
        parser.set_defaults({"ckpt.monitor": "loss", "ckpt.save_top_k": 2, "trainer.max_epochs": 2})
        parser.set_defaults({"trainer.callbacks": [{"class_path": "EarlyStopping", "init_args": {"monitor": "loss"}}]})
        parser.link_arguments("data.batch_size", "model.batch_size")
        parser.link_arguments("data.num_classes", "model.num_classes", apply_on="instantiate")

    @classmethod
    def made(cls) -> None:
        cls(Net, Data, parser_kwargs={"default_env": True, "env_prefix": "APP"})


if __name__ == "__main__":
    AddedCLI.made()
