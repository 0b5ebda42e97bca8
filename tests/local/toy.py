"""A small module and its data, with switches for what tests need to happen."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import torch
from ray import tune
from torch.utils.data import DataLoader, Dataset


class Samples(Dataset[tuple[int, torch.Tensor, torch.Tensor]]):
    """`count` samples of two separable classes: (id, features (8,), label)."""

    def __init__(self, count: int, seed: int) -> None:
        random = torch.Generator().manual_seed(seed)
        self.x = torch.randn(count, 8, generator=random)
        self.y = (self.x.sum(1) > 0).long()

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[int, torch.Tensor, torch.Tensor]:
        return index, self.x[index], self.y[index]


class ToyData(L.LightningDataModule):
    """Shuffled training samples, another set for validation and one for the test."""

    def __init__(self, count: int = 64, batch_size: int = 16) -> None:
        super().__init__()
        self.count = count
        self.batch_size = batch_size

    def train_dataloader(self) -> Any:
        return DataLoader(Samples(self.count, 1), batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self) -> Any:
        return DataLoader(Samples(32, 2), batch_size=self.batch_size)

    def test_dataloader(self) -> Any:
        return DataLoader(Samples(32, 3), batch_size=self.batch_size)


def wait(ready: Callable[[], bool], seconds: float, problem: str) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(problem)
        time.sleep(0.01)


class PlannedFailure(Exception):  # noqa: N818
    """An error that no other process can unpickle: it takes more than a message, and holds a lock."""

    def __init__(self, what: str, *, epoch: int) -> None:
        super().__init__(f"{what} in epoch {epoch}")
        self.lock = threading.Lock()


class Toy(L.LightningModule):
    """Dropout makes it depend on the random state, momentum on the optimizer's.

    Args:
        ledger: folder in which each process notes the samples of every step.
        fail_at: the epoch in which training raises; `once` names a file that is made first, and prevents a second time.
        kill_at: the same, with SIGKILL to the worker's own process.
        sleep: seconds an epoch takes more.
        meet: a folder in which trials wait for each other, at each epoch, until `meet_count` have come there.
        hold: a file that epoch `hold_from`, and each after it, waits for: 1.2 s longer, since a stop is looked for
            once a second.
        plateau: log a metric in the module's own on_train_epoch_end, and step a plateau scheduler on it.
    """

    def __init__(
        self,
        lr: float = 0.1,
        weight_decay: float = 0.0,
        hidden: int = 16,
        ledger: str | None = None,
        fail_at: int | None = None,
        kill_at: int | None = None,
        once: str | None = None,
        sleep: float = 0.0,
        plateau: bool = False,
        step_lr: float | None = None,
        meet: str | None = None,
        meet_count: int = 2,
        hold: str | None = None,
        hold_from: int = 1,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = torch.nn.Sequential(
            torch.nn.Linear(8, hidden), torch.nn.ReLU(), torch.nn.Dropout(0.5), torch.nn.Linear(hidden, 2)
        )

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        ids, x, y = batch
        self._note(ids.tolist())
        loss = torch.nn.functional.cross_entropy(self.net(x), y)
        self.log("train/loss", loss, on_step=False, on_epoch=True, sync_dist=True)
        return loss

    def on_train_epoch_start(self) -> None:
        h = self.hparams
        if h.meet:
            self._meet(Path(h.meet, str(self.current_epoch)), h.meet_count)
        if h.hold and self.current_epoch >= h.hold_from:
            self._hold(Path(h.hold))
        if h.sleep:
            time.sleep(h.sleep)
        if self.current_epoch == h.fail_at and self._first_time():
            raise PlannedFailure("planned failure", epoch=self.current_epoch)
        if self.current_epoch == h.kill_at and self._first_time():
            os.kill(os.getpid(), signal.SIGKILL)

    def _first_time(self) -> bool:
        if self.hparams.once is None:
            return True
        try:
            Path(self.hparams.once).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def _meet(self, folder: Path, count: int) -> None:
        """Without it a trial may be over before the process of the next one has started."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / str(tune.get_context().get_trial_id())).touch()
        wait(lambda: len(list(folder.iterdir())) >= count, 60, f"fewer than {count} trials came to {folder}")

    def _hold(self, asked: Path) -> None:
        wait(lambda: asked.exists() and time.time() >= asked.stat().st_mtime + 1.2, 120, f"nobody made {asked}")

    def validation_step(self, batch: Any, index: int) -> None:
        _, x, y = batch
        logits = self.net(x)
        self.log("val/loss", torch.nn.functional.cross_entropy(logits, y), sync_dist=True)
        self.log("val_acc", (logits.argmax(1) == y).float().mean(), sync_dist=True)
        self.log("rank", float(self.global_rank), sync_dist=False)

    def test_step(self, batch: Any, index: int) -> None:
        _, x, y = batch
        self.log("test_acc", (self.net(x).argmax(1) == y).float().mean())

    def on_train_epoch_end(self) -> None:
        group = self.trainer.optimizers[0].param_groups[0]
        self.log("lr", group["lr"])
        self.log("weight_decay", group["weight_decay"])
        self.log("threads", float(torch.get_num_threads()))

    def configure_optimizers(self) -> Any:
        h = self.hparams
        optimizer = torch.optim.SGD(self.parameters(), lr=h.lr, momentum=0.9, weight_decay=h.weight_decay)
        if h.plateau:
            scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0, threshold=0.1)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "val/loss"}}
        if h.step_lr:
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, h.step_lr)]
        return optimizer

    def _note(self, ids: list[int]) -> None:
        if self.hparams.ledger is None:
            return
        line = {"epoch": self.current_epoch, "rank": self.global_rank, "step": self.global_step, "ids": ids}
        with Path(self.hparams.ledger, f"{os.getpid()}.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")


class Lasting(Toy):
    """Sets what can be set once in a process, and leaves files open, as loggers do that nobody closes."""

    files: ClassVar[list[Any]] = []

    def on_fit_start(self) -> None:
        torch.set_num_interop_threads(3)
        self.files.append(Path(self.trainer.default_root_dir, f"{os.getpid()}.log").open("a"))  # noqa: SIM115

    def on_train_epoch_end(self) -> None:
        super().on_train_epoch_end()
        self.log("pid", float(os.getpid()))
