"""Subclass mode: the YAML names the classes, and links reach into their init_args."""

from __future__ import annotations

from lightning.pytorch import LightningDataModule
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from tests.unit.cli_projects.pieces import Net


class SubclassCLI(LightningCLI):
    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.link_arguments("data.init_args.batch_size", "model.init_args.batch_size")


def build_cli() -> LightningCLI:
    return SubclassCLI(
        Net,
        LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        auto_configure_optimizers=False,
        save_config_callback=None,
    )


own = build_cli
