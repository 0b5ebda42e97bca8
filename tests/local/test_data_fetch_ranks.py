"""An example on two ranks: one data set, disjoint shares of it, and metrics that count every sample once."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.local.commands import Command, Place

pytestmark = pytest.mark.local

RANK = """
import hashlib, json, sys, torch
import lightning.pytorch as pl
from trainer_app.examples.mnist import MNISTClassifier, MNISTDataModule

(out,) = sys.argv[1:]
torch.set_num_threads(1)


class Shown(MNISTClassifier):
    def training_step(self, batch, batch_idx):
        seen.extend(hashlib.sha1(image.numpy().tobytes()).hexdigest() for image in batch[0])
        return super().training_step(batch, batch_idx)


seen = []
pl.seed_everything(1)
data = MNISTDataModule(**MNISTDataModule.resolve_init_args({"source": "digits", "shift": 0}))
model = Shown(lr=1e-3)
trainer = pl.Trainer(max_epochs=1, accelerator="cpu", devices=2, strategy="ddp", logger=False,
                     enable_checkpointing=False, enable_progress_bar=False, num_sanity_val_steps=0)
trainer.fit(model, datamodule=data)
metrics = {k: float(v) for k, v in trainer.callback_metrics.items()}
x, y = data.val.__getitems__(range(len(data.val)))
accuracy = float((model.eval()(x).argmax(1) == y).float().mean())
report = {"seen": seen, "val": data.val.rows.tolist(), "metrics": metrics, "accuracy": accuracy}
open(f"{out}/{trainer.global_rank}.json", "w").write(json.dumps(report))
"""


def test_two_ranks_share_one_data_set(tmp_path: Path) -> None:
    script = tmp_path / "rank.py"
    script.write_text(RANK)
    with Place({"TRAINER_CACHE": str(tmp_path / "cache")}) as place:
        command = Command([sys.executable, str(script), str(tmp_path)], tmp_path, place.env)
        assert command.end() == 0, command.err[-2000:]
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first["val"] == second["val"] and len(first["val"]) == 180
    assert len(first["seen"]) == len(second["seen"]) == 719  # of 1,437: Lightning's sampler repeats one
    assert len({*first["seen"], *second["seen"]}) == 1437
    assert first["metrics"] == second["metrics"]
    assert 0.5 < first["accuracy"] < 1
    assert first["metrics"]["val_accuracy"] == pytest.approx(first["accuracy"])
