"""An encoder and tokenizer from a folder in Hugging Face's format; `transformers` is imported only if it is used."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

from trainer_app.examples.data.idx import DataError
from trainer_app.formatting import one_line
from trainer_app.run.require import require_extra

_HINT: Final = "a folder as save_pretrained writes it is needed"


def import_transformers() -> Any:
    """Return the package `transformers`.

    Raises:
        InputError: it is not installed; the message has the command that installs it.
    """
    try:
        return import_module("transformers")
    except ImportError:
        require_extra("huggingface", what="what is in Hugging Face's format")
        raise


def read_config(folder: Path) -> str:
    """Return a folder's config.json as text on one line.

    Raises:
        DataError: there is none, or it names no kind of model.
    """
    try:
        config = json.loads((folder / "config.json").read_text())
        return json.dumps({"model_type": config["model_type"], **config})
    except (OSError, ValueError, TypeError, KeyError) as e:
        raise DataError(f"{folder}: holds no config.json that can be read; {_HINT}") from e


def longest_text(config: str) -> int | None:
    """Return how many tokens the model of a config.json takes; None if it has no limit."""
    longest: int | None = json.loads(config).get("max_position_embeddings")
    return longest


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
        pretrained = _read(import_transformers().AutoModel, folder)
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

    Raises:
        DataError: the folder has no vocabulary: `transformers` would make a tokenizer that knows no word.
    """
    tokenizer = _read(import_transformers().AutoTokenizer, folder)
    files = getattr(tokenizer, "vocab_files_names", {}).values()
    if files and not any((folder / name).exists() for name in files):
        raise DataError(f"{folder}: holds no tokenizer, {' or '.join(files)}; {_HINT}, with the tokenizer's")
    return list(tokenizer(list(texts), truncation=True, max_length=max_length)["input_ids"])


def _read(kind: Any, folder: Path) -> Any:
    """Return what a class of `transformers` makes of a folder.

    Raises:
        DataError: a file is missing or damaged.
    """
    try:
        return kind.from_pretrained(str(folder), local_files_only=True)
    except Exception as e:  # each of its readers raises errors of its own
        what = one_line(f"{type(e).__name__}: {e}")
        raise DataError(f"{folder}: {kind.__name__} can't read it; {_HINT}: {what}") from e
