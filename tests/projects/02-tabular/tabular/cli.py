import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from tabular.data import WineData
from tabular.model import MLP


class TabularCLI(LightningCLI):
    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_lightning_class_args(EarlyStopping, "early_stopping")
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.set_defaults({"early_stopping.monitor": "val/loss", "early_stopping.patience": 20})
        parser.set_defaults({"checkpoint.monitor": "val/loss", "checkpoint.filename": "best"})
        parser.add_optimizer_args(torch.optim.AdamW)
        parser.add_lr_scheduler_args(torch.optim.lr_scheduler.CosineAnnealingLR)
        parser.set_defaults({"optimizer.lr": 0.01, "lr_scheduler.T_max": 10})
        parser.link_arguments("data.batch_size", "model.batch_size")
        parser.link_arguments("data.num_features", "model.num_features", apply_on="instantiate")


def main() -> None:
    TabularCLI(MLP, WineData, seed_everything_default=1, trainer_defaults={"max_epochs": 10, "log_every_n_steps": 1})
