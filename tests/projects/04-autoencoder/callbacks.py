from pathlib import Path

import torch
from lightning.pytorch.callbacks import Callback


class SaveReconstructions(Callback):
    """Writes the first reconstructions of every validation."""

    def __init__(self, folder: str = "reconstructions", count: int = 4) -> None:
        self.folder, self.count = Path(folder), count

    def on_validation_epoch_end(self, trainer, pl_module) -> None:
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        rows = next(iter(trainer.val_dataloaders))[: self.count].to(pl_module.device)
        with torch.no_grad():
            images = pl_module.decode(pl_module.encode(rows))
        self.folder.mkdir(exist_ok=True)
        torch.save(images, self.folder / f"{trainer.current_epoch}.pt")
