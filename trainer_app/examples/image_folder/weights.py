"""Weights that EfficientNet-B0's backbone starts from: chosen once a run, recorded with their checksum."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import torch
from torch import Tensor
from torchvision.models import EfficientNet, EfficientNet_B0_Weights, efficientnet_b0

from trainer_app.examples.data.download import download_weights
from trainer_app.examples.data.files import fetch_files, resolve_files
from trainer_app.examples.data.idx import DataError

NONE: Final = "none"
HEAD: Final = "classifier."  # of torchvision's model; ours has another


def make_backbone() -> EfficientNet:
    """Return EfficientNet-B0 with random weights."""
    return efficientnet_b0(weights=None)


def resolve_weights(init_args: Mapping[str, Any]) -> dict[str, Any]:
    """Choose the weights of a run, for a model's `resolve_init_args`; what does not fit is refused before a start.

    Raises:
        DataError: there are no such weights, or they are not EfficientNet-B0's.
    """
    if (init_args.get("weights") or NONE) == NONE:
        return dict(init_args)
    resolved, files = resolve_files(init_args, source="weights", checksum="weights_checksum", default=NONE, made=MADE)
    with torch.device("meta"):
        _read(files.path, make_backbone())
    return resolved


def load_backbone(backbone: EfficientNet, source: str, checksum: str | None) -> None:
    """Load weights into the backbone; the head stays as it is.

    Args:
        source: as a run file names them, less `none`.
        checksum: load exactly these; None takes what the source has.

    Raises:
        DataError: as `resolve_weights`.
    """
    files = fetch_files(source, checksum=checksum, made=MADE)
    backbone.load_state_dict(_read(files.path, backbone))


def _read(path: Path, backbone: EfficientNet) -> dict[str, Tensor]:
    """Return the weights in a file, less the head's, if they are those of this backbone."""
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
        weights = {name: value for name, value in loaded.items() if not name.startswith(HEAD)}
    except Exception as e:
        raise DataError(f"{path}: weights can't be loaded: {' '.join(str(e).split())[:200]}") from e
    own = {name: value for name, value in backbone.state_dict().items() if not name.startswith(HEAD)}
    wrong = [n for n in {**own, **weights} if n not in own or n not in weights or own[n].shape != weights[n].shape]
    if wrong:
        few = ", ".join(wrong[:3])
        raise DataError(f"{path}: not weights of torchvision's efficientnet_b0: {few} ({len(wrong)}) do not fit")
    return weights


def _download(folder: Path) -> None:
    weights = EfficientNet_B0_Weights.DEFAULT
    download_weights(str(weights), folder, host=str(urlsplit(weights.url).hostname))


MADE: Final = {"torchvision": _download}
