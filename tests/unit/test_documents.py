"""The module of Ray's guide "Using PyTorch Lightning with Tune" as it is written there, but for the package's name."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.unit.tree import ROOT
from trainer_app import lightning_cli
from trainer_app.callbacks.epoch import Policy
from trainer_app.config import RunConfig, loads, override
from trainer_app.records import FitFolder
from trainer_app.run.spec import RunSpec
from trainer_app.storage import open_store
from trainer_app.training import worker

pytestmark = [pytest.mark.unit, pytest.mark.filterwarnings("ignore")]

RUN_FILE = """
seed_everything: 1
model: {class_path: guide.MNISTClassifier, init_args: {config: {layer_1_size: 32, layer_2_size: 64, lr: 1e-2}}}
data: {class_path: guide_data.Images}
trainer: {max_epochs: 2, devices: auto, accelerator: auto, enable_progress_bar: false,
  callbacks: [ray.tune.integration.pytorch_lightning.TuneReportCheckpointCallback]}
checkpoint: {keep: 2, monitor: ptl/val_accuracy, mode: max}
tune:
  metric: ptl/val_accuracy
  mode: max
  num_samples: 10
  scheduler: {asha: {max_t: 5, grace_period: 1, reduction_factor: 2}}
  space:
    model.init_args.config.layer_1_size: {choice: [32, 64, 128]}
    model.init_args.config.layer_2_size: {choice: [64, 128, 256]}
    model.init_args.config.lr: {loguniform: [1e-4, 1e-1]}
    data.init_args.batch_size: {choice: [32, 64]}
"""
IMAGES = """
import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, TensorDataset


class Images(pl.LightningDataModule):
    def __init__(self, batch_size: int = 32):
        super().__init__()
        self.batch_size = batch_size

    def train_dataloader(self):
        labels = torch.arange(320) % 10
        images = torch.zeros(320, 1, 28, 28)
        images[torch.arange(320), 0, labels] = 1.0
        return DataLoader(TensorDataset(images, labels), batch_size=self.batch_size, shuffle=True)

    val_dataloader = train_dataloader
"""


@pytest.fixture
def guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    """The guide's class and imports in a module, and the run file for them."""
    source = (ROOT / "bench/document_sweep.py").read_text(encoding="utf-8")
    nodes = [n for n in ast.parse(source).body if getattr(n, "name", "") == "MNISTClassifier"]
    names = "import torch\nimport torch.nn.functional as F\nfrom torchmetrics import Accuracy\n"
    written = "\n".join(str(ast.get_source_segment(source, node)) for node in nodes)
    (tmp_path / "guide.py").write_text(f"import lightning.pytorch as pl\n{names}\n{written}\n")
    (tmp_path / "guide_data.py").write_text(IMAGES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("guide", "guide_data"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return loads(RUN_FILE)


def test_its_search_space_fits_it(guide: RunConfig) -> None:
    lightning_cli.check_code(guide)
    lightning_cli.check_space(guide)
    assert [note.rpartition(": ")[2] for note in guide.notes if "replaced" in note]
    wrong = override(guide, {"tune.space": {"model.init_args.size": {"choice": [1]}}})
    with pytest.raises(Exception, match=r"model\.init_args\.size"):
        lightning_cli.check_space(wrong)


def test_it_trains_and_its_metrics_are_reported_by_their_names(guide: RunConfig, tmp_path: Path) -> None:
    reports: list[dict[str, Any]] = []
    spec = RunSpec(run="r", uri=str(tmp_path), config="", use_gpu=False)
    fit_folder = FitFolder(open_store(str(tmp_path / "runs")))
    policy = Policy(keep=guide.checkpoint.keep, monitor=guide.checkpoint.monitor, mode=guide.checkpoint.mode)
    kwargs = worker.one_device(spec)
    worker.fit(guide, fit_folder, policy=policy, report=reports.append, trainer_kwargs=kwargs)
    names = {"ptl/train_loss", "ptl/train_accuracy", "ptl/val_loss", "ptl/val_accuracy"}
    assert [names <= report["metrics"].keys() for report in reports] == [True, True]
    assert reports[-1]["metrics"]["ptl/val_accuracy"] > 0.9
    assert policy.monitor == "ptl/val_accuracy" and len(list(fit_folder.checkpoints.list_folders())) == 2
