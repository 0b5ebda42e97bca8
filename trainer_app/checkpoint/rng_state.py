"""The random state of a process, as plain data that torch loads with weights_only=True."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


def capture() -> dict[str, Any]:
    """Return the states of Python's, NumPy's, torch's and, if there is a device, CUDA's generators."""
    version, keys, gauss = random.getstate()
    legacy: Any = np.random.get_state(legacy=True)
    name, numbers, position, has_gauss, cached = legacy
    state = {
        "python": [version, list(keys), gauss],
        "numpy": [str(name), torch.from_numpy(numbers.astype(np.int64)), int(position), int(has_gauss), float(cached)],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def restore(state: dict[str, Any]) -> None:
    """Restore what `capture` returned, CUDA's state only if the number of devices is the same."""
    version, keys, gauss = state["python"]
    random.setstate((version, tuple(keys), gauss))
    name, numbers, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, numbers.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"].cpu())
    if len(state.get("cuda", ())) == torch.cuda.device_count() > 0:
        torch.cuda.set_rng_state_all([s.cpu() for s in state["cuda"]])
