"""EfficientNet-B0 with a head of its own."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torchmetrics import Accuracy, F1Score

from trainer_app.examples.data.idx import DataError
from trainer_app.examples.image_folder.weights import load_backbone, make_backbone, resolve_weights


class ImageClassifier(pl.LightningModule):
    """EfficientNet-B0 with dropout and a linear head. Takes float images [b, 3, h, w], gives logits [b, num_classes].

    Logs train/loss at each step; train/acc, val/loss, val/acc and val/f1 (the mean over the classes) once an epoch,
    over the images of all workers.

    Args:
        num_classes: classes that the data has.
        lr, weight_decay: AdamW's; the rate falls to 0 over `trainer.max_epochs` as a cosine. `optimizer` and
            `lr_scheduler` blocks in the run file replace them.
        weights: what the backbone starts from: `none`, `torchvision` (its download), or a file of torchvision's
            names, here or `s3://bucket/...`. It is not read where a checkpoint is loaded.
        weights_checksum: of the weights that the run started with; `trainer` fills it in.
    """

    def __init__(
        self,
        num_classes: int,
        lr: float = 1e-3,
        weight_decay: float = 0.01,
        weights: str = "none",
        weights_checksum: str | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.backbone = make_backbone()
        in_features = self.backbone.classifier[1].in_features
        self.backbone.classifier = nn.Identity()
        self.classifier = nn.Sequential(nn.Dropout(0.3), nn.Linear(in_features, num_classes))
        self.train_acc = Accuracy(task="multiclass", num_classes=num_classes)
        self.val_acc = Accuracy(task="multiclass", num_classes=num_classes)
        self.val_f1 = F1Score(task="multiclass", num_classes=num_classes, average="macro")
        self.criterion = nn.CrossEntropyLoss()
        self.has_weights = weights == "none"
        self.register_load_state_dict_post_hook(lambda module, _: setattr(module, "has_weights", True))

    @classmethod
    def resolve_init_args(cls, init_args: dict[str, Any]) -> dict[str, Any]:
        """Resolve `weights` and `weights_checksum`; `trainer` calls this once, before the workers start."""
        return resolve_weights(init_args)

    def setup(self, stage: str) -> None:
        classes = getattr(getattr(self.trainer, "datamodule", None), "classes", None)
        if classes is not None and len(classes) != self.hparams["num_classes"]:
            raise DataError(
                f"model.init_args.num_classes is {self.hparams['num_classes']}, the data has {len(classes)} classes"
                f" ({', '.join(classes[:10])}); set it to {len(classes)}"
            )

    def on_fit_start(self) -> None:
        """Load the backbone's weights, unless others were loaded: Lightning has restored a checkpoint by now."""
        if not self.has_weights:
            load_backbone(self.backbone, self.hparams["weights"], self.hparams["weights_checksum"])
            self.has_weights = True

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.backbone(x))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        logits = self(images)
        loss = self.criterion(logits, labels)
        self.train_acc(logits.argmax(dim=1), labels)
        self.log("train/loss", loss, prog_bar=True)
        self.log("train/acc", self.train_acc, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images, labels = batch
        logits = self(images)
        predicted = logits.argmax(dim=1)
        self.val_acc(predicted, labels)
        self.val_f1(predicted, labels)
        # torchmetrics adds up over the workers by itself; a plain number needs sync_dist.
        self.log("val/loss", self.criterion(logits, labels), prog_bar=True, sync_dist=True, batch_size=len(labels))
        self.log("val/acc", self.val_acc, on_step=False, on_epoch=True)
        self.log("val/f1", self.val_f1, on_step=False, on_epoch=True)

    def configure_optimizers(self) -> Any:
        hparams = self.hparams
        optimizer = torch.optim.AdamW(self.parameters(), lr=hparams["lr"], weight_decay=hparams["weight_decay"])
        epochs = self.trainer.max_epochs
        if epochs is None or epochs < 1:  # a fit that ends by steps or time: no epoch is known to be the last
            return optimizer
        return {
            "optimizer": optimizer,
            "lr_scheduler": torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs),
        }
