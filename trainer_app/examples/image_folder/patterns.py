"""Made-up images of three classes: horizontal stripes, vertical stripes and checks. They need no download."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

EACH: Final = 100  # images of a class
SIDE: Final = 64


def write_patterns(folder: Path) -> None:
    """Write <class>/<number>.ppm: every encoder of this format writes the same bytes, so the checksum is one."""
    random = np.random.RandomState(0)  # its stream is frozen (NEP 19)
    for name in ("checks", "horizontal", "vertical"):
        (folder / name).mkdir()
        for number in range(EACH):
            pixels = _draw(random, name).tobytes()
            (folder / name / f"{number:03}.ppm").write_bytes(f"P6 {SIDE} {SIDE} 255\n".encode() + pixels)


def _draw(random: np.random.RandomState, name: str) -> npt.NDArray[np.uint8]:
    """Return uint8 [SIDE, SIDE, 3]: two colours in bands of random width, and noise."""
    bands = (np.arange(SIDE) + random.randint(SIDE)) // random.randint(4, 8) % 2
    rows, columns = np.meshgrid(bands, bands, indexing="ij")
    where = {"horizontal": rows, "vertical": columns, "checks": rows ^ columns}[name]
    colours = random.randint(0, 110, 3), random.randint(140, 256, 3)
    image = np.where(where[..., None], *colours) + random.randint(-20, 21, (SIDE, SIDE, 3))
    return np.clip(image, 0, 255).astype(np.uint8)
