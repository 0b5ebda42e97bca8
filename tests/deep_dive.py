"""The page "PyTorch Lightning Training — Deep Dive" in small: module, data, and its whole Trainer as a run file."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import Accuracy, F1Score

CLASSES = 3
# Its numbers, less those that make it long: 100 epochs, 4 devices. There are few steps: each is measured and logged.
RUN_FILE = """
name: deep
seed_everything: 42
model: {class_path: tests.deep_dive.ImageClassifier, init_args: {num_classes: 3, lr: 0.05}}
data: {class_path: tests.deep_dive.ImageDataModule, init_args: {batch_size: 4}}
trainer:
  accelerator: auto
  devices: DEVICES
  strategy: ddp
  precision: PRECISION
  max_epochs: 4
  gradient_clip_val: 1.0
  accumulate_grad_batches: 4
  callbacks:
  - class_path: ModelCheckpoint
    init_args: {monitor: val/f1, mode: max, save_top_k: 3, save_last: true, filename: "{epoch}-{val/f1:.3f}"}
  - class_path: EarlyStopping
    init_args: {monitor: val/loss, patience: 10, mode: min}
  - class_path: LearningRateMonitor
    init_args: {logging_interval: step}
  - class_path: trainer_app.callbacks.GradientNorm
    init_args: {every_n_steps: 1}
  - class_path: RichProgressBar
  log_every_n_steps: 1
  logger: LOGGER
  profiler: {class_path: PROFILER, init_args: {dirpath: ./profiler, filename: perf}}
checkpoint: {monitor: val/f1, mode: max}
scaling: {use_gpu: false}
"""


WANDB = "{class_path: WandbLogger, init_args: {project: image-classification, offline: true}}"
CSV = "{class_path: CSVLogger, init_args: {save_dir: .}}"
FITS = {"32-true": ("AdvancedProfiler", WANDB), "bf16-mixed": ("PyTorchProfiler", CSV)}  # one process, one W&B run


def run_file(precision: str, devices: int = 2) -> str:
    profiler, logger = FITS[precision]
    parts = {"PRECISION": precision, "PROFILER": profiler, "LOGGER": logger, "DEVICES": str(devices)}
    text = RUN_FILE
    for name, part in parts.items():
        text = text.replace(name, part)
    return text


class ImageClassifier(L.LightningModule):
    """The page's, with a backbone of one layer."""

    def __init__(self, num_classes: int, lr: float = 1e-3, weight_decay: float = 0.01) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.backbone = torch.nn.Linear(12, 8)
        self.classifier = torch.nn.Sequential(torch.nn.Dropout(0.3), torch.nn.Linear(8, num_classes))
        self.train_acc = Accuracy(task="multiclass", num_classes=num_classes)
        self.val_acc = Accuracy(task="multiclass", num_classes=num_classes)
        self.val_f1 = F1Score(task="multiclass", num_classes=num_classes, average="macro")
        self.criterion = torch.nn.CrossEntropyLoss()

    def forward(self, x: torch.Tensor) -> Any:
        return self.classifier(self.backbone(x))

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        images, labels = batch
        logits = self(images)
        loss = self.criterion(logits, labels)
        self.train_acc(logits.argmax(dim=1), labels)
        self.log("train/loss", loss, prog_bar=True)
        self.log("train/acc", self.train_acc, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        images, labels = batch
        logits = self(images)
        preds = logits.argmax(dim=1)
        self.val_acc(preds, labels)
        self.val_f1(preds, labels)
        self.log("val/loss", self.criterion(logits, labels), prog_bar=True)
        self.log("val/acc", self.val_acc, on_step=False, on_epoch=True)
        self.log("val/f1", self.val_f1, on_step=False, on_epoch=True)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=self.hparams["lr"], weight_decay=self.hparams["weight_decay"]
        )
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.trainer.max_epochs or 1)
        return {"optimizer": optimizer, "lr_scheduler": scheduler}


class ImageDataModule(L.LightningDataModule):
    def __init__(self, batch_size: int = 32) -> None:
        super().__init__()
        self.save_hyperparameters()

    def _loader(self, seed: int, shuffle: bool) -> Any:
        labels = torch.arange(48) % CLASSES
        images = torch.randn(48, 12, generator=torch.Generator().manual_seed(seed)) / 2
        images[torch.arange(48), labels] += 2
        return DataLoader(TensorDataset(images, labels), batch_size=self.hparams["batch_size"], shuffle=shuffle)

    def train_dataloader(self) -> Any:
        return self._loader(1, shuffle=True)

    def val_dataloader(self) -> Any:
        return self._loader(2, shuffle=False)


def train_rank(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Do one rank's part of a run for each precision; return what each reported.

    The first works in the user's folder, as on a machine, the second in one of its own, as in a pod.
    """
    from trainer_app.config import loads
    from trainer_app.run.spec import RunSpec
    from trainer_app.training import worker

    os.environ["LOCAL_RANK"] = str(torch.distributed.get_rank())
    reports: dict[str, list[dict[str, Any]]] = {}
    for number, precision in enumerate(FITS):
        work, in_place = folder / "work" / precision, not number
        work.mkdir(parents=True, exist_ok=True)
        os.chdir(work)
        torch.distributed.barrier()
        spec = RunSpec(
            precision, str(folder / "runs"), "", use_gpu=False, folder=str(work), in_place=in_place, started=time.time()
        )
        reports[precision] = []
        worker.fit_with_ray(loads(run_file(precision)), spec, trial=None, report=reports[precision].append)
    return reports
