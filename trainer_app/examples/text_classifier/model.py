"""A transformer encoder that classifies texts, as one process holds it or sharded over the workers (FSDP2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torchmetrics.classification import MulticlassAccuracy, MulticlassMatthewsCorrCoef

from trainer_app.examples.data.files import fetch_files, resolve_files
from trainer_app.examples.data.idx import DataError
from trainer_app.examples.text_classifier.data import BYTES, TextDataModule
from trainer_app.examples.text_classifier.hugging_face import (
    PretrainedTransformer,
    import_transformers,
    longest_text,
    read_config,
)
from trainer_app.examples.text_classifier.vocabulary import PAD, SIZE

NONE: Final = "none"


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
        weights: `none`, or a folder in Hugging Face's format, an archive of it, or `s3://bucket/...` of one of them.
            Then its encoder takes the place of this one; `data.init_args.tokenizer` has to name the same.
        weights_checksum, encoder_config: of those weights; `trainer` fills them in.
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
        weights: str = NONE,
        weights_checksum: str | None = None,
        encoder_config: str = "",
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        width = dim_feedforward or 4 * d_model
        self.network = (
            ByteTransformer(num_classes, d_model, nhead, num_layers, width, dropout, max_length)
            if weights == NONE
            else PretrainedTransformer(encoder_config, num_classes)
        )
        self.has_weights = weights == NONE
        self.register_load_state_dict_post_hook(lambda module, _: setattr(module, "has_weights", True))
        self.criterion = nn.CrossEntropyLoss()
        self.val_acc = MulticlassAccuracy(num_classes, average="micro")
        self.val_mcc = MulticlassMatthewsCorrCoef(num_classes)

    @classmethod
    def resolve_init_args(cls, init_args: dict[str, Any]) -> dict[str, Any]:
        """Resolve `weights`; `trainer` calls this once, before the workers start."""
        if (init_args.get("weights") or NONE) == NONE:
            return init_args
        import_transformers()
        resolved, files = resolve_files(init_args, source="weights", checksum="weights_checksum", default=NONE)
        return {**resolved, "encoder_config": read_config(files.path)}

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
        if isinstance(data := getattr(self.trainer, "datamodule", None), TextDataModule):
            check_data(self.hparams, data)

    def on_fit_start(self) -> None:
        """Load the encoder's weights, unless others were loaded: Lightning has restored a checkpoint by now."""
        if isinstance(self.network, PretrainedTransformer) and not self.has_weights:
            self.network.load(fetch_files(self.hparams["weights"], checksum=self.hparams["weights_checksum"]).path)
            self.has_weights = True

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


def check_data(hparams: Mapping[str, Any], data: TextDataModule) -> None:
    """Check that a model takes what a data module gives.

    Raises:
        DataError: it does not; the arguments that differ are named.
    """
    count, theirs = len(data.classes), data.hparams
    if count != hparams["num_classes"]:
        names = ", ".join(data.classes[:10])
        raise DataError(
            f"model.init_args.num_classes is {hparams['num_classes']}, the data has {count} classes ({names}); set it"
            f" to {count}"
        )
    if (hparams["weights"] == NONE) != (theirs["tokenizer"] == BYTES):
        raise DataError(
            f"model.init_args.weights is {hparams['weights']!r} and data.init_args.tokenizer {theirs['tokenizer']!r};"
            " name the same folder in both, or none in either"
        )
    if theirs["max_length"] != hparams["max_length"]:  # Lightning raises without naming the run file's keys
        raise DataError(
            f"data.init_args.max_length is {theirs['max_length']} and model.init_args.max_length"
            f" {hparams['max_length']}; make them equal"
        )
    longest = None if hparams["weights"] == NONE else longest_text(hparams["encoder_config"])
    if longest is not None and hparams["max_length"] > longest:
        raise DataError(
            f"max_length is {hparams['max_length']}, the encoder takes {longest} tokens; set it to {longest}"
        )


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
        self.tokens = nn.Embedding(SIZE, d_model)
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
        x = self.tokens(tokens.clamp(min=0)) + self.positions(torch.arange(tokens.shape[1], device=tokens.device))
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=padding)
        kept = (~padding).unsqueeze(2)
        return self.head((self.norm(x) * kept).sum(1) / kept.sum(1))
