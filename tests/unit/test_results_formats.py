"""`trainer results` for other tools and for the eye: CSV, Parquet, lines of blocks, a chart."""

from __future__ import annotations

import csv
import io
import math
import sys
from pathlib import Path

import pytest

from tests.run_samples import epoch, train_run, trial, tune_run
from trainer_app.__main__ import main
from trainer_app.records import RunFolder, RunRecord, TrialRecord
from trainer_app.results import load_run, read_outcome
from trainer_app.results.curves import MOST_TRIALS, chart, read_curves, sparkline, sparklines
from trainer_app.results.table_files import epoch_rows, to_csv, to_parquet
from trainer_app.storage import Store, open_store

pytestmark = pytest.mark.unit


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.delenv("TRAINER_STORAGE_URI", raising=False)
    monkeypatch.delenv("TRAINER_NAMESPACE", raising=False)
    monkeypatch.chdir(tmp_path)
    return open_store("runs")


def test_a_row_per_epoch_and_one_for_a_trial_without_any(storage: Store) -> None:
    tune_run(storage)
    rows = list(csv.DictReader(io.StringIO(to_csv(load_run(storage.uri, "mnist-1")).decode())))
    shown = [(row["trial"], row["state"], row["epoch"], row["val/acc"]) for row in rows]
    assert shown == [
        ("t00000", "stopped", "0", "0.7"),
        ("t00001", "finished", "0", "0.8"),
        ("t00001", "finished", "1", "0.95"),
        ("t00001", "finished", "2", "0.9"),
        ("t00002", "failed", "0", "nan"),
        ("t00003", "interrupted" if rows[-1]["state"] == "interrupted" else "pending", "", ""),
    ]
    assert rows[1]["model.init_args.lr"] == "0.05" and rows[0]["run"] == "mnist-1"


def test_a_name_that_two_columns_have(storage: Store) -> None:
    folder = RunFolder.create(storage, RunRecord(name="r", task="tune", metric="loss", mode="min"), "name: r\n")
    epoch(folder.fit_folder("t00000"), 0, {"loss": 1.0, "epoch": 0.0, "step": 7.0, "lr": 0.5})
    params = {"lr": 0.1, "state": "warm", "layers": [1, 2]}
    folder.write_trial(TrialRecord(trial="t00000", index=0, params=params, state="finished", epochs=1))
    columns, (row,) = epoch_rows(load_run(storage.uri, "r"))
    assert columns[:7] == ["run", "trial", "state", "epoch", "step", "time", "elapsed"]
    assert columns[7:] == ["lr", "params.state", "layers", "loss", "metrics.epoch", "metrics.step", "metrics.lr"]
    assert row["lr"] == 0.1 and row["metrics.lr"] == 0.5 and row["epoch"] == 0 and row["metrics.step"] == 7.0


def test_parquet_has_the_same_with_types(storage: Store) -> None:
    from pyarrow import parquet

    folder = RunFolder.create(storage, RunRecord(name="r", task="tune", metric="loss", mode="min"), "name: r\n")
    mixed = [
        {"act": "relu", "n": 1, "l": [1]},
        {"act": None, "n": 0.5, "l": "x"},
        {"act": "\ud800", "n": 2**70, "l": 1},
    ]
    for index, params in enumerate(mixed):
        name = f"t{index:05d}"
        epoch(folder.fit_folder(name), 0, {"loss": math.inf if index else 1.0})
        folder.write_trial(TrialRecord(trial=name, index=index, params=params, state="finished", epochs=1))
    table = parquet.read_table(io.BytesIO(to_parquet(load_run(storage.uri, "r")))).to_pydict()
    assert table["loss"] == [1.0, math.inf, math.inf] and table["epoch"] == [0, 0, 0]
    assert table["act"] == ["relu", None, "?"] and table["l"] == ["[1]", "x", "1"] and len(table["n"]) == 3


def test_files_of_the_command(storage: Store, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    train_run(storage)
    tune_run(storage)
    assert main(["results", "fashion-1", "--csv", "-"]) == 0
    text = capfd.readouterr().out
    assert main(["results", "fashion-1", "--csv", "out.csv"]) == 0
    assert (tmp_path / "out.csv").read_text() == text and text.count("\n") == 4
    assert main(["results", "mnist-1", "--trial", "t00001", "--parquet", "out.parquet"]) == 0
    assert main(["results", "mnist-1", "--csv", "no/where.csv"]) == 2
    assert "cannot write no/where.csv: No such file or directory" in capfd.readouterr().err
    assert main(["results", "mnist-1", "--csv", "a", "--plot"]) == 2
    assert main(["results", "mnist-1", "--csv", "a", "--trial", "t9"]) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "out.parquet", "runs"]


def test_parquet_without_pyarrow(
    storage: Store, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    train_run(storage)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert main(["results", "fashion-1", "--parquet", "out.parquet"]) == 2
    assert "needs pyarrow, which the extra [train] has" in capfd.readouterr().err


def test_blocks_are_the_values() -> None:
    assert sparkline([(0, 0.0), (1, 0.5), (2, 1.0)], 0.0, 1.0) == "▁▅█"
    assert sparkline([(0, 0.0), (3, 1.0)], 0.0, 1.0) == "▁  █"  # no value in epochs 1 and 2
    assert sparkline([(n, float(n)) for n in range(32)], 0.0, 31.0, width=4) == "▂▄▅▇"
    assert sparkline([(0, 3.0)], 3.0, 3.0) == "▁" and sparkline([], 0.0, 1.0) == ""
    assert sparklines({"a": [(0, 0.0)], "b": [(0, 1.0)], "c": []}) == {"a": "▁", "b": "█", "c": ""}


def test_curves_of_a_sweep_leave_out_what_is_no_number_and_what_is_damaged(storage: Store) -> None:
    folder = tune_run(storage)
    folder.run_store.put("trials/t00001/metrics/a0002-0000.jsonl", b"{\xff\n")
    curves = read_curves(storage, read_outcome(storage, "mnist-1"))
    assert curves == {"t00000": [(0, 0.7)], "t00001": [(0, 0.8), (1, 0.95), (2, 0.9)], "t00002": [], "t00003": []}
    for index in range(4, MOST_TRIALS + 1):
        trial(folder, index, [], state="pending")
    assert read_curves(storage, read_outcome(storage, "mnist-1")) == {}


def test_a_chart_has_each_curve(storage: Store, capfd: pytest.CaptureFixture[str]) -> None:
    drawn = chart({"t00001": [(0, 0.5), (9, 1.5)], "bad\x1b[2J": [(0, 1.0)]}, "val/acc", width=80)
    assert "t00001" in drawn and "bad" in drawn and "\x1b" not in drawn and "val/acc" in drawn
    assert max(map(len, drawn.splitlines())) <= 80
    tune_run(storage)
    assert main(["results", "mnist-1", "--plot"]) == 0
    out = capfd.readouterr().out
    assert out.index("t00001") < out.index("t00000") and "t00002" not in out  # the best first; no value, no curve
    assert main(["results", "mnist-1", "--plot", "--trial", "t00002"]) == 2
    assert "no epoch has a value of val/acc yet" in capfd.readouterr().err
    train_run(storage, metric=None, mode=None)
    assert main(["results", "fashion-1", "--plot"]) == 2
    assert "has no metric" in capfd.readouterr().err
