import callbacks  # noqa: F401
import datasets  # noqa: F401
import lightning.pytorch as pl
import models
from lightning.pytorch.cli import LightningCLI

if __name__ == "__main__":
    LightningCLI(
        models.Autoencoder,
        pl.LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        seed_everything_default=3,
        save_config_kwargs={"overwrite": True},
        parser_kwargs={"default_env": True, "env_prefix": "AE"},
    )
