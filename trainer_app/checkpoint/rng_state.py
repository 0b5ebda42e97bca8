"""The random state of a process, as plain data that torch loads with weights_only=True."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


def capture() -> dict[str, Any]:
    """The states of Python's, NumPy's, torch's and, where there is one, CUDA's generators."""
    version, keys, gauss = random.getstate()
    legacy: Any = np.random.get_state(legacy=True)
    name, words, position, has_gauss, cached = legacy
    state = {
        "python": [version, list(keys), gauss],
        "numpy": [str(name), torch.from_numpy(words.astype(np.int64)), int(position), int(has_gauss), float(cached)],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def restore(state: dict[str, Any]) -> None:
    """Put back what `capture` returned. CUDA's state is left alone where the number of devices differs."""
    version, keys, gauss = state["python"]
    random.setstate((version, tuple(keys), gauss))
    name, words, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, words.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"].cpu())
    if len(state.get("cuda", ())) == torch.cuda.device_count() > 0:
        torch.cuda.set_rng_state_all([s.cpu() for s in state["cuda"]])
