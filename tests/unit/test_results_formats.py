"""`trainer results` for other tools and for the eye: CSV, Parquet, lines of blocks, a chart."""

from __future__ import annotations

import csv
import io
import math
import os
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.run_samples import epoch, train_run, trial, tune_run
from trainer_app.__main__ import main
from trainer_app.cli.stored_run import check_output
from trainer_app.errors import InputError
from trainer_app.machine import write_whole
from trainer_app.records import RunFolder, RunRecord, TrialRecord
from trainer_app.results import curves, load_run, read_outcome, table_files
from trainer_app.results.curves import MOST_TRIALS, chart, read_curves, sparkline, sparklines
from trainer_app.results.table_files import epoch_rows, to_csv, to_parquet
from trainer_app.storage import Store

pytestmark = pytest.mark.unit


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


@pytest.mark.parametrize(
    "points",
    [
        [(0, -1.7e308), (1, 1.7e308)],
        [(epoch, 1.7e308) for epoch in range(50)],
        [(0, 5e-324), (1, 0.0)],
        [(5, 1.0), (1, 2.0)],
    ],
)
def test_any_curve_is_drawn(points: curves.Curve) -> None:
    values = [value for _, value in points]
    line = curves.sparkline(points, min(values), max(values))
    assert line.strip() and set(line) <= {" ", *curves.BLOCKS}
    assert "epoch" in curves.chart({"x": points}, "loss", width=80)


@pytest.mark.parametrize(
    "epochs, shown",
    [
        (1, ["1", "2"]),
        (3, ["1", "2", "3"]),
        (5, ["1", "2", "3", "4", "5"]),
        (10, ["1", "3", "5", "7", "9", "11"]),
        (333, ["1", "68", "135", "202", "269", "336"]),
    ],
)
def test_the_axis_of_a_chart_names_whole_epochs(epochs: int, shown: list[str]) -> None:
    drawn = curves.chart({"x": [(epoch, 0.5) for epoch in range(epochs)]}, "loss", width=80)
    assert drawn.splitlines()[-1].replace("|", "").split() == shown


def test_a_number_beyond_a_float_is_no_point_of_a_curve() -> None:
    lines = [{"epoch": epoch, "metrics": {"m": value}} for epoch, value in enumerate((10**400, float("nan"), 1))]
    assert curves.curve(lines, "m") == [(2, 1.0)]


def test_a_file_takes_the_place_of_files_only(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_bytes()), daemon=True)
    reader.start()
    write_whole(tmp_path / "pipe", b"rows")
    reader.join(20)
    assert read == [b"rows"] and (tmp_path / "pipe").is_fifo()
    (tmp_path / "link").symlink_to("table.csv")
    write_whole(tmp_path / "link", b"rows")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "table.csv").read_bytes() == b"rows"
    write_whole(tmp_path / ("a" * 255), b"rows")
    for path in (Path(), Path("/"), tmp_path, tmp_path / "none/x", tmp_path / ("a" * 256)):
        with pytest.raises(InputError, match="cannot write"):
            write_whole(path, b"")
    for output in (str(tmp_path), f"file://{tmp_path}", str(tmp_path / "pipe"), "/dev/null"):
        with pytest.raises(InputError, match="is not a file"):
            check_output(output)
    assert check_output("s3://bucket/x.onnx") == "s3://bucket/x.onnx"


def test_columns_keep_their_values_whatever_their_names() -> None:
    names = {"epoch": None, "params.epoch": None, "lr": None}
    assert table_files._rename(names, table_files.FIXED, "params") == {
        "epoch": "params.params.epoch",
        "params.epoch": "params.epoch",
        "lr": "lr",
    }


def test_a_metric_whose_name_is_no_unicode_is_a_column(storage: Store) -> None:
    train_run(storage, "x")
    run = load_run(storage.uri, "x")
    line = {**run.fits[0].history[0], "metrics": {"\ud800": 1.0}}
    run = replace(run, fits=[replace(run.fits[0], history=[line])])
    table = pq.read_table(io.BytesIO(to_parquet(run)))
    assert table.column("?").to_pylist() == [1.0] and b",?\n" in to_csv(run)
