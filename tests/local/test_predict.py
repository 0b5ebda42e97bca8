"""Predictions of many rows: killed and continued, on a real Ray, and in a real S3."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from tests.local.commands import Place
from tests.s3 import S3
from tests.trained import trained_run
from trainer_app.config import RunConfig, loads
from trainer_app.errors import UserError
from trainer_app.storage import open_store
from trainer_app.training import predict as predicting
from trainer_app.training.predict import PredictRequest

pytestmark = [pytest.mark.local, pytest.mark.timeout(600), pytest.mark.filterwarnings("ignore")]

HERE = "tests.local.test_predict"
FAIL = -2


class Halves(L.LightningModule):
    """Halves a row; waits for its end, once, where a row is `hold`."""

    def __init__(self, hold: int = -1, mark: str = "") -> None:
        super().__init__()
        self.hold, self.mark = hold, Path(mark)
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        return -self.weight.sum()

    def train_dataloader(self) -> Any:
        return DataLoader(TensorDataset(torch.ones(1, 1)))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.5)

    def predict_step(self, batch: Any, index: int) -> Any:
        if self.hold == FAIL:
            raise ValueError("no prediction")
        if (batch == self.hold).any() and not self.mark.exists():
            self.mark.touch()
            time.sleep(600)
        return batch.double().squeeze(1) * self.weight.double()


def run_file(**init: Any) -> RunConfig:
    return loads(
        f"model: {{class_path: {HERE}.Halves, init_args: {init}}}\nseed_everything: 1\n"
        "trainer: {max_epochs: 1, logger: false}\nscaling: {use_gpu: false}\n"
    )


@pytest.mark.parametrize(
    "rows, part, workers",
    [(20_000, 1_000, "1"), pytest.param(1_000_000, 20_000, "2", marks=pytest.mark.full)],
)
def test_a_killed_prediction_has_each_row_once(tmp_path: Path, rows: int, part: int, workers: str) -> None:
    """The process, and all of its Ray, is killed; then the same command, on two processes."""
    store, mark = open_store(str(tmp_path / "runs")), tmp_path / "held"
    trained_run(store, run_file(hold=rows // 2, mark=str(mark)))
    ids = np.random.default_rng(0).permutation(rows)
    pq.write_table(pa.table({"n": np.arange(rows), "id": ids}), tmp_path / "rows.parquet")
    command = ["predict", f"{store.uri}/r", "--data", "rows.parquet", "--columns", "n", "--keep", "id", "-o", "out.csv"]
    command += ["--part-size", str(part), "--batch-size", "500"]
    with Place() as place:
        killed = place.start(*command, "--workers", workers, cwd=tmp_path)
        killed.until(mark.exists)
        place.kill()
        assert killed.end() == -9 and not (tmp_path / "out.csv").exists()
        kept = sum(entry.key.endswith(".parquet") for entry in store.list("r/predictions"))
        assert 0 < kept < rows // part
        done = place.run(*command, "--workers", "2", cwd=tmp_path)
    assert done.code == 0, done.err
    assert f"{rows:,} rows, {kept} of {rows // part} parts from an earlier attempt" in done.out
    table = pa.csv.read_csv(tmp_path / "out.csv")
    assert np.array_equal(table["row"], np.arange(rows)) and np.array_equal(table["id"], ids)
    assert np.array_equal(table["prediction"], np.arange(rows) * 0.5)
    assert not list(store.list("r/predictions"))


def test_rows_and_predictions_in_s3(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store(s3.uri)
    trained_run(store, run_file())
    for name, first in (("0.parquet", 0), ("1.csv", 100)):
        table, path = pa.table({"n": np.arange(first, first + 100)}), tmp_path / name
        (pq.write_table if name.endswith("t") else pa.csv.write_csv)(table, path)
        store.put_file(f"rows/{name}", path)
    target = f"{s3.uri}/out/p.parquet"
    request = PredictRequest(target, f"{s3.uri}/rows", columns=("n",), batch_size=10, part_rows=30, workers=1)
    event = predicting.predict(store, "r", request)
    assert (event["rows"], event["parts"]) == (200, 8)
    store.get_file("out/p.parquet", tmp_path / "got.parquet")
    assert pq.read_table(tmp_path / "got.parquet")["prediction"].to_pylist() == [n * 0.5 for n in range(200)]
    assert not list(store.list("r/predictions"))


@pytest.mark.usefixtures("ray_session")
def test_an_error_of_the_users_code_on_ray_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store(str(tmp_path / "runs"))
    trained_run(store, run_file(hold=FAIL))
    pq.write_table(pa.table({"n": np.arange(40)}), "rows.parquet")
    request = PredictRequest("out.csv", "rows.parquet", columns=("n",), batch_size=10, part_rows=10, workers=2)
    error = (
        r"^ValueError: no prediction \(tests/local/test_predict\.py:\d+\); its batch was .*--columns n; --data has n$"
    )
    with pytest.raises(UserError, match=error):
        predicting.predict(store, "r", request)
    assert not (tmp_path / "out.csv").exists()
