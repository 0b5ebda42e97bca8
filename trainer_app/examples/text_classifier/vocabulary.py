"""Texts as tokens without a vocabulary file: the bytes of UTF-8."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

PAD: Final = 0  # behind the end of a text
START: Final = 1  # before each text, so that no text is empty
SIZE: Final = 2 + 256


def encode(texts: Sequence[str], *, max_length: int) -> Tensor:
    """Return int16 tokens [n, longest text], padded with PAD.

    Args:
        texts: n of them.
        max_length: of the tokens of a text; a longer one is cut.
    """
    rows = [[START, *(2 + byte for byte in text.encode()[: max_length - 1])] for text in texts]
    tokens = torch.full((len(rows), max(map(len, rows), default=1)), PAD, dtype=torch.int16)
    for row, tokens_of_row in zip(tokens, rows, strict=True):
        row[: len(tokens_of_row)] = torch.tensor(tokens_of_row, dtype=torch.int16)
    return tokens


def trim(batch: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Cut a batch of tokens to its longest text, as int64: what is computed grows with the length."""
    longest = int((batch[0] != PAD).sum(1).max())
    return (batch[0][:, :longest].long(), *batch[1:])
