"""The toy, held in the middle of an epoch until somebody kills it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import torch

from tests.local.toy import Toy

HELD_S = 300


class Held(Toy):
    """Waits in the third step of epoch `hold_at`, once.

    Args:
        mark: a file that is made there as `<mark>.<epoch>`; where it exists already, nobody waits.
        hold_at: epoch, -1 for never.
        **kwargs: Toy's.
    """

    def __init__(self, mark: str | None = None, hold_at: int = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.save_hyperparameters()

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        loss = super().training_step(batch, index)
        if index == 2 and self.current_epoch == self.hparams["hold_at"]:
            self._wait(Path(f"{self.hparams['mark']}.{self.current_epoch}"))
        return loss

    def _wait(self, file: Path) -> None:
        try:
            file.touch(exist_ok=False)
        except FileExistsError:
            return
        time.sleep(HELD_S)
        raise AssertionError("nobody killed this process")

    def _note(self, ids: list[int]) -> None:
        """With the rate, by which a sweep's trials are told apart."""
        if self.hparams["ledger"] is None:
            return
        line = {"epoch": self.current_epoch, "rank": 0, "step": self.global_step, "lr": self.hparams["lr"], "ids": ids}
        with Path(self.hparams["ledger"], f"{os.getpid()}.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
