"""Load a checkpoint file with torch's weights_only=True, and say early what it would refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from trainer_app.errors import TrainerError
from trainer_app.lightning_cli.importing import load_object


def load_checkpoint(path: Path, allow: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return a checkpoint's content, on the CPU; classes named in `allow` are permitted."""
    with allow_globals(allow):
        loaded: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return loaded


def allow_globals(allow: tuple[str, ...]) -> Any:
    """Return a context in which torch also unpickles the classes named in `allow`."""
    return torch.serialization.safe_globals([load_object("checkpoint.allow", name) for name in allow])


def check_loadable(path: Path, allow: tuple[str, ...]) -> None:
    """Find out at the first save, not on resume, what torch would refuse. Raises TrainerError, naming the class."""
    try:
        load_checkpoint(path, allow)
    except Exception as e:
        reason = next((line.strip() for line in str(e).splitlines() if "GLOBAL" in line or "global" in line), str(e))
        raise TrainerError(
            f"the checkpoint holds an object that torch.load(weights_only=True) refuses: {reason[:300]}; keep it "
            "out of hyperparameters and callback states, or name its class in checkpoint.allow"
        ) from e
