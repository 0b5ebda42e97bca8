"""After a PBT exploit: the cloned checkpoint brings the old learning rate back; set the mutated values again."""

from __future__ import annotations

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from trainer_app import lightning_compat


class RestoreConfiguredHparams(Callback):
    """Take every hyperparameter from the module's configuration, once, after the optimizers' states were restored.

    A learning rate under a scheduler stays where it is in the schedule: it is scaled by new base rate / old base rate.
    """

    done = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.done:
            return
        self.done = True
        fresh, _ = lightning_compat._init_optimizers_and_lr_schedulers(pl_module)
        for restored, configured in zip(trainer.optimizers, fresh, strict=True):
            for group, new in zip(restored.param_groups, configured.param_groups, strict=True):
                apply_hparams(group, new)
        for config in trainer.lr_scheduler_configs:
            rebase_scheduler(config.scheduler)


def apply_hparams(group: dict[str, Any], new: dict[str, Any]) -> None:
    """Copy the hyperparameters of `new` into `group`, scaling a scheduled rate to its new base."""
    base = new.get("initial_lr", new["lr"])
    if group.get("initial_lr"):
        rate = group["lr"] * base / group["initial_lr"]
        group["initial_lr"] = base
    else:
        rate = base
    for key, value in new.items():
        if key not in ("params", "lr", "initial_lr"):
            group[key] = value
    group["lr"] = rate


def rebase_scheduler(scheduler: Any) -> None:
    """Make a scheduler (and those inside it) start from its optimizer's new base rates."""
    for inner in getattr(scheduler, "_schedulers", ()):
        rebase_scheduler(inner)
    if hasattr(scheduler, "base_lrs"):
        groups = scheduler.optimizer.param_groups
        scheduler.base_lrs = [group["initial_lr"] for group in groups]
        scheduler._last_lr = [group["lr"] for group in groups]
