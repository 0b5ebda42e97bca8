"""What the tests of the examples share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from trainer_app import examples

FOLDER = Path(examples.__file__).parent


def quiet_trainer(**options: Any) -> pl.Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    return pl.Trainer(**{**quiet, "enable_model_summary": False, "num_sanity_val_steps": 0, **options})
