"""Functions around a LightningCLI, with code before and after the fit."""

from __future__ import annotations

import functools

from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.tuner import Tuner

from tests.unit.cli_projects.pieces import Data, Net, Probe, SelfFed


def prints() -> None:
    cli = LightningCLI(Net, Data)
    print(float(cli.trainer.callback_metrics["loss"]))


def fits() -> None:
    """Changes what was built, fits, and goes on."""
    cli = LightningCLI(Net, Data, run=False)
    cli.trainer.callbacks.append(Probe())
    cli.model.extra = 1
    cli.trainer.fit(cli.model, cli.datamodule)
    print(float(cli.trainer.callback_metrics["loss"]))
    cli.trainer.fit_loop.max_epochs = 3
    cli.trainer.fit(cli.model, cli.datamodule)


def fits_another() -> None:
    """Fits a model and loaders of its own."""
    cli = LightningCLI(Net, Data, run=False)
    model = Net(cli.model.hparams["batch_size"], width=9)
    cli.trainer.fit(model, cli.datamodule.train_dataloader())


def tunes() -> None:
    cli = LightningCLI(Net, Data, run=False)
    finder = Tuner(cli.trainer).lr_find(cli.model, datamodule=cli.datamodule, num_training=4, update_attr=False)
    cli.model.found = len(finder.results["lr"])
    cli.trainer.fit(cli.model, cli.datamodule)


def resumes() -> None:
    cli = LightningCLI(Net, Data, run=False)
    cli.trainer.fit(cli.model, cli.datamodule, ckpt_path="some.ckpt")


def fails() -> None:
    """Would fail by itself too, before it fits."""
    cli = LightningCLI(Net, Data, run=False)
    cli.trainer.fit(cli.nothing, cli.datamodule)


class HookedCLI(LightningCLI):
    def __init__(self) -> None:
        super().__init__(SelfFed, Data)

    def before_fit(self) -> None:
        self.model.extra = 2

    def after_fit(self) -> None:
        raise AssertionError("this follows the fit")


made = lambda: LightningCLI(Net, Data)  # noqa: E731
partial = functools.partial(LightningCLI, Net, Data)


if __name__ == "__main__":
    prints()
