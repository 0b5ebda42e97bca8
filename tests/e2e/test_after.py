"""A run that has ended is tested, and predicts, on the cluster, with what it was submitted with."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.e2e.kind import BUCKET, NAMESPACE, Cluster, until
from tests.e2e.runs import ONE_POD, wait

pytestmark = [pytest.mark.timeout(1500), pytest.mark.full]
Name = Callable[[str], str]
ROWS = 30_000

MODULE = """
import time
from pathlib import Path

import lightning as L
import torch


class Net(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def training_step(self, batch, index):
        return -self.weight.sum()

    def test_step(self, batch, index):
        self.log("weight", self.weight.item())

    def predict_step(self, batch, index):
        time.sleep(0.5)
        return batch.double().squeeze(1) * self.weight.double()

    def train_dataloader(self):
        return torch.utils.data.DataLoader(torch.ones(1, 1))

    test_dataloader = train_dataloader

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=2.0)
"""


def test_a_run_is_tested_and_predicts(cluster: Cluster, name: Name, tmp_path: Path) -> None:
    """A worker's pod is deleted in the middle of the prediction: each row has one anyhow."""
    folder = tmp_path / "project"
    (folder / "own_net").mkdir(parents=True)
    (folder / "own_net" / "__init__.py").write_text(MODULE)
    (tmp_path / "run.yaml").write_text("name: own\nmodel: {class_path: own_net.Net}\ntrainer: {max_epochs: 1}\n")
    run, tested, predicted = name("own"), name("tested"), name("predicted")
    words = ("-f", "kind", "-n", NAMESPACE, "--name", run, "--code", str(folder), *ONE_POD)
    cluster.trainer("submit", "train", "run.yaml", *words, cwd=tmp_path).ok()
    assert wait(cluster, run).code == 0, cluster.trainer("logs", run, "-n", NAMESPACE).out

    done = cluster.trainer("submit", "test", run, "-n", NAMESPACE, "--name", tested, "--follow", timeout=480)
    assert done.code == 0 and "weight=2" in done.out, done.out

    buffer = io.BytesIO()
    pq.write_table(pa.table({"n": list(range(ROWS))}), buffer)
    with cluster.bucket() as s3:
        s3.put_object(Bucket=BUCKET, Key=f"rows/{run}.parquet", Body=buffer.getvalue())
    out = f"predictions/{run}.parquet"
    options = ("--data", f"s3://{BUCKET}/rows/{run}.parquet", "--columns", "n", "-o", f"s3://{BUCKET}/{out}")
    sizes = ("--part-size", "1000", "--batch-size", "500")
    cluster.trainer("submit", "predict", run, "-n", NAMESPACE, "--name", predicted, "--", *options, *sizes).ok()

    def parts() -> int:
        return sum(key.endswith(".parquet") for key in cluster.objects(run, "predictions"))

    until("5 parts", lambda: parts() >= 5, seconds=480)
    selector = f"trainer/run={predicted},ray.io/node-type=worker"
    cluster.kubectl("delete", "pod", "-l", selector, "--wait=false")
    assert wait(cluster, predicted, timeout=900).code == 0, cluster.trainer("logs", predicted, "-n", NAMESPACE).out
    with cluster.bucket() as s3:
        table = pq.read_table(io.BytesIO(s3.get_object(Bucket=BUCKET, Key=out)["Body"].read()))
    assert table["row"].to_pylist() == list(range(ROWS))
    assert table["prediction"].to_pylist() == [2.0 * n for n in range(ROWS)]
