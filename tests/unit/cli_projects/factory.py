"""A factory that passes arguments through, and one that does not."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.cli import ArgsType, LightningCLI

from tests.unit.cli_projects.pieces import Data, Net


def make_cli(args: ArgsType = None) -> LightningCLI:
    return LightningCLI(Net, Data, run=False, args=args)


def needs_args(args: Any) -> LightningCLI:
    cli = LightningCLI(Net, Data, run=False, args=args)
    cli.model.extra = 1
    return cli


def own() -> None:
    cli = make_cli()
    cli.trainer.fit(cli.model, cli.datamodule)


def exits() -> None:
    raise SystemExit(2)


def two() -> None:
    make_cli()
    make_cli()


def none() -> None:
    return None


def fits_by_itself() -> None:
    """Train as a script without LightningCLI does, and make one afterwards."""
    Trainer(max_epochs=1).fit(Net(8), Data())
    make_cli()


def asks(folder: str) -> LightningCLI:
    return make_cli()


made = object()
