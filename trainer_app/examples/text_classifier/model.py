"""A transformer encoder that classifies texts, as one process holds it or sharded over the workers (FSDP2)."""

from __future__ import annotations

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torchmetrics.classification import MulticlassAccuracy, MulticlassMatthewsCorrCoef

from trainer_app.examples.data.idx import DataError
from trainer_app.examples.text_classifier.vocabulary import PAD, SIZE


class TextClassifier(pl.LightningModule):
    """A transformer encoder over the bytes of a text. Takes int64 tokens [b, l], gives logits [b, num_classes].

    Logs train/loss at each step; val/loss, val/acc and val/mcc (Matthews' correlation, the score of CoLA) once an
    epoch, over the samples of all workers.

    Args:
        num_classes: labels that the data has.
        d_model: features of a token; 512 makes 12.8 million parameters.
        nhead: attention heads; they divide d_model.
        num_layers: encoder layers.
        dim_feedforward: of an encoder layer; None is four times d_model.
        dropout: in the encoder layers.
        max_length: tokens of the longest text that it takes.
        lr, weight_decay: AdamW's. An `optimizer` block in the run file replaces AdamW and them.
    """

    def __init__(
        self,
        num_classes: int = 2,
        d_model: int = 128,
        nhead: int = 4,
        num_layers: int = 4,
        dim_feedforward: int | None = None,
        dropout: float = 0.1,
        max_length: int = 128,
        lr: float = 1e-3,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.network = ByteTransformer(
            num_classes, d_model, nhead, num_layers, dim_feedforward or 4 * d_model, dropout, max_length
        )
        self.criterion = nn.CrossEntropyLoss()
        self.val_acc = MulticlassAccuracy(num_classes, average="micro")
        self.val_mcc = MulticlassMatthewsCorrCoef(num_classes)

    def configure_model(self) -> None:
        """Shard each encoder layer, then the rest, where the strategy has a device mesh; Lightning calls it often."""
        if self.device_mesh is None or isinstance(self.network, FSDPModule):
            return
        mesh = self.device_mesh["data_parallel"]
        for module in self.network.modules():
            if isinstance(module, nn.TransformerEncoderLayer):
                fully_shard(module, mesh=mesh)
        fully_shard(self.network, mesh=mesh)

    def setup(self, stage: str) -> None:
        classes = getattr(getattr(self.trainer, "datamodule", None), "classes", None)
        if classes is not None and len(classes) != self.hparams["num_classes"]:
            raise DataError(
                f"model.init_args.num_classes is {self.hparams['num_classes']}, the data has {len(classes)} classes"
                f" ({', '.join(map(str, classes[:10]))}); set it to {len(classes)}"
            )

    def forward(self, tokens: Tensor) -> Tensor:
        return self.network(tokens)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        tokens, labels = batch
        loss = self.criterion(self(tokens), labels)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        tokens, labels = batch
        logits = self(tokens)
        self.val_acc.update(logits, labels)
        self.val_mcc.update(logits, labels)
        self.log("val/loss", self.criterion(logits, labels), sync_dist=True, batch_size=len(labels))
        self.log("val/acc", self.val_acc, prog_bar=True)
        self.log("val/mcc", self.val_mcc)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=self.hparams["lr"], weight_decay=self.hparams["weight_decay"])


class ByteTransformer(nn.Module):
    """Embedded bytes and positions, encoder layers, the mean over a text's tokens, a linear head."""

    def __init__(
        self,
        num_classes: int,
        d_model: int,
        nhead: int,
        num_layers: int,
        dim_feedforward: int,
        dropout: float,
        max_length: int,
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(SIZE, d_model, padding_idx=PAD)
        self.positions = nn.Embedding(max_length, d_model)
        options = {"activation": "gelu", "batch_first": True, "norm_first": True}
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(d_model, nhead, dim_feedforward, dropout, **options) for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(d_model)
        self.head = nn.Linear(d_model, num_classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits [b, num_classes] of tokens [b, l]; what equals PAD is not looked at."""
        padding = tokens == PAD
        x = self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1], device=tokens.device))
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=padding)
        kept = (~padding).unsqueeze(2)
        return self.head((self.norm(x) * kept).sum(1) / kept.sum(1))
