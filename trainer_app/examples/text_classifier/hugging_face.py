"""An encoder and tokenizer from a folder in Hugging Face's format; `transformers` is imported only if it is used."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

from trainer_app.errors import InputError
from trainer_app.examples.data.idx import DataError


def import_transformers() -> Any:
    """Return the package `transformers`.

    Raises:
        InputError: it is not installed; the message has the command that installs it.
    """
    try:
        return import_module("transformers")
    except ImportError as e:
        what = "weights and tokenizers of Hugging Face need transformers, not installed here"
        raise InputError(f"{what}: pip install transformers; on a cluster, in the image") from e


def read_config(folder: Path) -> str:
    """Return a folder's config.json as text on one line.

    Raises:
        DataError: there is none.
    """
    try:
        return json.dumps(json.loads((folder / "config.json").read_text()))
    except (OSError, ValueError) as e:
        hint = "a folder as save_pretrained writes it is needed"
        raise DataError(f"{folder}: holds no config.json that can be read; {hint}") from e


class PretrainedTransformer(nn.Module):
    """Hugging Face's encoder, the mean over a text's tokens, a linear head.

    Args:
        config: the text of a config.json; the weights are random until `load` is called.
        num_classes: of the head.
    """

    def __init__(self, config: str, num_classes: int) -> None:
        super().__init__()
        transformers = import_transformers()
        settings = transformers.AutoConfig.for_model(**json.loads(config))
        self.encoder = transformers.AutoModel.from_config(settings).float()
        if getattr(self.encoder, "pooler", None) is not None:
            self.encoder.pooler = None  # DDP refuses parameters that have no gradient
        self.head = nn.Linear(settings.hidden_size, num_classes)

    def load(self, folder: Path) -> None:
        """Load the weights in a folder, sharded as the encoder is; the head stays as it is."""
        pretrained = import_transformers().AutoModel.from_pretrained(str(folder), local_files_only=True)
        state, own = pretrained.float().state_dict(), self.encoder.state_dict()
        options = StateDictOptions(full_state_dict=True)
        set_model_state_dict(self.encoder, {name: state[name] for name in own}, options=options)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits [b, num_classes] of tokens [b, l]; those below 0 are padding."""
        kept = tokens >= 0
        x = self.encoder(input_ids=tokens.clamp(min=0), attention_mask=kept.long()).last_hidden_state
        kept = kept.unsqueeze(2)
        return self.head((x * kept).sum(1) / kept.sum(1))


def tokenize(texts: Sequence[str], folder: Path, *, max_length: int) -> Sequence[Sequence[int]]:
    """Return the tokens of each text.

    Args:
        texts: what is tokenized.
        folder: of the tokenizer.
        max_length: of the tokens of a text; a longer one is cut.
    """
    tokenizer = import_transformers().AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    return list(tokenizer(list(texts), truncation=True, max_length=max_length)["input_ids"])
