"""A user's own module, and a pool that grows with what is asked of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.kind import NAMESPACE, Cluster, until
from tests.e2e.runs import MNIST, ONE_POD, wait

pytestmark = pytest.mark.timeout(900)
Name = Callable[[str], str]

MODULE = """
from pathlib import Path

import lightning as L
import torch


class Net(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Linear(4, 1)

    def training_step(self, batch, index):
        return self.net(batch).mean()

    def validation_step(self, batch, index):
        self.log("version", {version} + float(Path("inputs/offset.txt").read_text()))

    def on_train_end(self):
        Path("notes").mkdir(exist_ok=True)
        Path("notes/version.txt").write_text("{version}")

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Data(L.LightningDataModule):
    def train_dataloader(self):
        return torch.utils.data.DataLoader(torch.randn(8, 4), batch_size=4)

    val_dataloader = train_dataloader
"""
RUN_FILE = """
name: own
model: {class_path: own_code.net.Net}
data: {class_path: own_code.net.Data}
trainer:
  max_epochs: 1
  logger: {class_path: lightning.pytorch.loggers.CSVLogger, init_args: {save_dir: logs}}
"""


def test_own_code_twice(cluster: Cluster, name: Name, tmp_path: Path) -> None:
    """A module outside this repository, edited between two submissions: the second run has the edit.

    It reads and writes by relative path; what it wrote is fetched. The second is submitted by the operator itself,
    without a pod for that.
    """
    folder = tmp_path / "project"
    (folder / "own_code").mkdir(parents=True)
    (folder / "own_code" / "__init__.py").touch()
    (folder / "inputs").mkdir()
    (folder / "inputs" / "offset.txt").write_text("0.5")
    (folder / ".gitignore").write_text("big.bin\n")
    (folder / "big.bin").write_bytes(b"\0" * (60 << 20))
    (tmp_path / "run.yaml").write_text(RUN_FILE)
    for version, mode in ((1.0, "K8sJobMode"), (2.0, "HTTPMode")):
        (folder / "own_code" / "net.py").write_text(MODULE.format(version=version))
        run = name("own")
        set_mode = ("--set", f"lifetime.submissionMode={mode}")
        words = ("-f", "kind", "-n", NAMESPACE, "--name", run, "--code", str(folder), *ONE_POD, *set_mode)
        cluster.trainer("submit", "train", "run.yaml", *words, cwd=tmp_path).ok()
        assert wait(cluster, run).code == 0, cluster.trainer("logs", run, "-n", NAMESPACE).out
        results = cluster.results(run)
        assert results["history"][0]["metrics"]["version"] == version + 0.5
        logs = "logs/lightning_logs/version_0"
        wrote = [f"{logs}/metrics.csv", "notes/version.txt"]
        assert [one["name"] for one in results["artifacts"]] == wrote
        out = tmp_path / run
        cluster.trainer("fetch", run, "-n", NAMESPACE, "-o", str(out)).ok()
        assert (out / "artifacts/notes/version.txt").read_text() == str(version)
        assert str(version + 0.5) in (out / f"artifacts/{logs}/metrics.csv").read_text()
        assert list(out.glob("checkpoints/*/checkpoint.ckpt")) and list(out.glob("logs/driver/*.log"))
        cluster.trainer("delete", run, "-n", NAMESPACE, timeout=400).ok()


@pytest.mark.full
def test_tune_with_a_pool_that_grows(cluster: Cluster, name: Name) -> None:
    """A pool with minReplicas 0, for a trial of 2 workers."""
    run = name("grows")
    pool = ("--set", "autoscaling.enabled=true", "--set", "pools.cpu.minReplicas=0,pools.cpu.maxReplicas=2")
    words = ("tune.num_samples=1", "scaling.num_workers=2", "trainer.max_epochs=1", "--set", "pools.cpu.replicas=0")
    file = f"{MNIST}/tune.yaml"
    given = ("submit", "tune", file, "data.init_args.source=digits", "-f", "kind", "-n", NAMESPACE, "--name", run)
    cluster.trainer(*given, *words, *pool).ok()
    head = until("head", lambda: cluster.pods(run, "head"), seconds=30)[0]
    assert {one["name"] for one in head["spec"]["containers"]} == {"ray-head", "autoscaler"}
    assert not cluster.pods(run, "worker")
    until("two workers", lambda: len(cluster.pods(run, "worker")) == 2, seconds=90)
    assert wait(cluster, run).code == 0
    assert [trial["state"] for trial in cluster.results(run)["trials"]] == ["finished"]
