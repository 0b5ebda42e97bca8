"""Texts as tokens without a vocabulary file: the bytes of UTF-8."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

PAD: Final = -1  # behind the end of a text: no vocabulary has it
START: Final = 0  # before each text, so that no text is empty
SIZE: Final = 1 + 256


def encode(texts: Sequence[str], *, max_length: int) -> Sequence[Sequence[int]]:
    """Return the tokens of each text.

    Args:
        texts: what is encoded.
        max_length: of the tokens of a text; a longer one is cut.
    """
    return [[START, *(1 + byte for byte in text.encode()[: max_length - 1])] for text in texts]


def pad(rows: Sequence[Sequence[int]]) -> Tensor:
    """Return n texts as int32 tokens [n, longest text], padded with PAD."""
    tokens = torch.full((len(rows), max(map(len, rows), default=1)), PAD, dtype=torch.int32)
    for row, values in zip(tokens, rows, strict=True):
        row[: len(values)] = torch.tensor(values, dtype=torch.int32)
    return tokens


def trim(batch: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Cut a batch of tokens to its longest text, as int64: what is computed grows with the length."""
    longest = int((batch[0] != PAD).sum(1).max())
    return (batch[0][:, :longest].long(), *batch[1:])
