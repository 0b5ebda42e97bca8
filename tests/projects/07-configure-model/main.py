import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "src"))

from lightning.pytorch.cli import LightningCLI
from spirals import SpiralNet, Spirals


class CLI(LightningCLI):
    def add_arguments_to_parser(self, parser):
        parser.link_arguments("data.options.arms", "model.classes")


cli = partial(CLI, SpiralNet, Spirals, save_config_callback=None)

if __name__ == "__main__":
    cli()
