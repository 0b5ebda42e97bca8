"""Labelled texts in memory, as tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from trainer_app.data import BatchedDataset, loader, split_indices
from trainer_app.examples.data.files import fetch_files, resolve_files
from trainer_app.examples.data.idx import DataError
from trainer_app.examples.text_classifier.hugging_face import import_transformers, tokenize
from trainer_app.examples.text_classifier.sentences import write_sentences
from trainer_app.examples.text_classifier.tables import Text, read_splits
from trainer_app.examples.text_classifier.vocabulary import encode, pad, trim

SENTENCES: Final = "sentences"
MADE: Final = {SENTENCES: write_sentences}
BYTES: Final = "bytes"


class TextDataModule(pl.LightningDataModule):
    """Labelled texts: batches are int64 tokens [b, longest text] and int64 labels [b].

    Args:
        source: `sentences` (made here), a file with a text and a label a line (.tsv, .csv or .jsonl), a folder with
            train.* and, if there is one, dev.* or val.* of the same, an archive of it, or `s3://bucket/...`.
        checksum: of the data that the run started with; `trainer` fills it in.
        batch_size: texts a batch, on each worker.
        max_length: of a text in tokens, bytes and one more; a longer one is cut. The model's must be the same.
        text, label: names of the columns. A table of four columns without a header is read as CoLA's.
        tokenizer: `bytes`, or a folder in Hugging Face's format, an archive of it, or `s3://bucket/...`.
        tokenizer_checksum: of that folder; `trainer` fills it in.
        split_seed: draws a fifth of the texts for validation where the source has none of its own.
    """

    def __init__(
        self,
        source: str = SENTENCES,
        checksum: str | None = None,
        batch_size: int = 64,
        max_length: int = 128,
        text: str = "sentence",
        label: str = "label",
        tokenizer: str = BYTES,
        tokenizer_checksum: str | None = None,
        split_seed: int = 42,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()

    @classmethod
    def resolve_init_args(cls, init_args: dict[str, Any]) -> dict[str, Any]:
        """Resolve `source` and `checksum`; `trainer` calls this once, before the workers start."""
        resolved, _ = resolve_files(init_args, source="source", checksum="checksum", default=SENTENCES, made=MADE)
        if (resolved.get("tokenizer") or BYTES) == BYTES:
            return resolved
        import_transformers()
        return resolve_files(resolved, source="tokenizer", checksum="tokenizer_checksum", default=BYTES)[0]

    def setup(self, stage: str | None = None) -> None:
        hparams = self.hparams
        files = fetch_files(hparams["source"], checksum=hparams["checksum"], made=MADE)
        train, val = read_splits(files.path, text=hparams["text"], label=hparams["label"])
        self.classes = sort_labels(train)
        if val is None:
            texts, labels = self._encode(train)
            rows = split_indices(len(train), seed=hparams["split_seed"], held_out=max(1, len(train) // 5))
            self.train, self.val = (BatchedDataset(texts, labels, rows=r, transform=trim) for r in rows)
        else:
            self.train, self.val = (BatchedDataset(*self._encode(part), transform=trim) for part in (train, val))

    def train_dataloader(self) -> DataLoader:
        return loader(self.train, batch_size=self.hparams["batch_size"], shuffle=True)

    def val_dataloader(self) -> DataLoader:
        return loader(self.val, batch_size=self.hparams["batch_size"])

    def _encode(self, rows: Sequence[Text]) -> tuple[Tensor, Tensor]:
        numbers = {name: number for number, name in enumerate(self.classes)}
        unknown = next((row for row in rows if row.label not in numbers), None)
        if unknown is not None:
            raise DataError(f"{unknown.place}: no text to train on has the label {unknown.label!r}")
        labels = torch.tensor([numbers[row.label] for row in rows])
        return pad(self._tokenize([row.text for row in rows])), labels

    def _tokenize(self, texts: Sequence[str]) -> Sequence[Sequence[int]]:
        name, longest = self.hparams["tokenizer"], self.hparams["max_length"]
        if name == BYTES:
            return encode(texts, max_length=longest)
        folder = fetch_files(name, checksum=self.hparams["tokenizer_checksum"]).path
        return tokenize(texts, folder, max_length=longest)


def sort_labels(rows: Sequence[Text]) -> list[str]:
    """Return the labels that occur, numbers in their order.

    Raises:
        DataError: there are fewer than two.
    """
    labels = {row.label for row in rows}
    if len(labels) < 2:
        raise DataError(f"{rows[0].place}: all texts have the label {rows[0].label!r}; at least two are needed")
    number = all(label.removeprefix("-").isdecimal() for label in labels)
    return sorted(labels, key=lambda label: (int(label) if number else 0, label))
