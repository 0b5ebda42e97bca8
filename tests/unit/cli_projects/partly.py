"""functools.partial over LightningCLI."""

from __future__ import annotations

import functools

from lightning.pytorch.cli import LightningCLI

from tests.unit.cli_projects.pieces import Data, Probe, SelfFed

cli = functools.partial(LightningCLI, SelfFed, trainer_defaults={"callbacks": Probe(), "logger": False}, run=True)
with_data = functools.partial(LightningCLI, SelfFed, Data)


def own() -> None:
    cli()
