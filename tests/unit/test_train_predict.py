"""A prediction for each row, once: of files, of the run's own data, and after a kill."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from tests.trained import trained_run
from trainer_app.__main__ import main
from trainer_app.config import RunConfig, loads
from trainer_app.errors import InputError, NotFoundError, TrainerError, UserError
from trainer_app.run.orphans import find_orphans
from trainer_app.storage import Store
from trainer_app.training import predict as predicting
from trainer_app.training.predict import PredictRequest
from trainer_app.training.prediction_parts import Part, part_of_loader
from trainer_app.training.prediction_table import to_table, write_file
from trainer_app.training.predictor import Predictor

pytestmark = [pytest.mark.unit, pytest.mark.filterwarnings("ignore")]

HERE = "tests.unit.test_train_predict"


class Sums(L.LightningModule):
    """Adds up a row, times a weight that is 1 after the training; a mapping's columns are `a` and `b`."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        return -self.weight.sum()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=1.0)

    def predict_step(self, batch: Any, index: int) -> Any:
        assert not self.training and not torch.is_grad_enabled()
        if isinstance(batch, dict):
            return {"sum": (batch["a"] + batch["b"]) * self.weight, "text": batch["text"]}
        return (batch[0] if isinstance(batch, list) else batch).sum(1) * self.weight


class Embeds(Sums):
    def predict_step(self, batch: Any, index: int) -> Any:
        return batch.reshape(len(batch), 1, -1).expand(-1, 2, -1), batch[:, 0].bfloat16()


class Placed(Sums):
    def predict_step(self, batch: Any, index: int, dataloader_idx: int = 0) -> Any:
        return torch.full((len(batch),), dataloader_idx) if torch.is_tensor(batch) else batch[0][:, 0] + dataloader_idx


class Pairs(Sums):
    def predict_step(self, batch: Any, index: int) -> Any:
        return batch.float() @ torch.ones(2, 1)


class Short(Sums):
    def predict_step(self, batch: Any, index: int) -> Any:
        return batch[:-1].sum(1)


class Silent(Sums):
    def predict_step(self, batch: Any, index: int) -> Any:
        return None


class Fails(Sums):
    def predict_step(self, batch: Any, index: int) -> Any:
        if (batch == 7.0).any():
            raise ValueError("seven")
        return batch.sum(1)


class Ones(L.LightningDataModule):
    def train_dataloader(self) -> Any:
        return DataLoader(TensorDataset(torch.ones(1, 1)))


class Own(Ones):
    """Ten rows of its own, then five that have no length; a hook changes what the module gets."""

    def setup(self, stage: str) -> None:
        self.rows = torch.arange(20.0).reshape(10, 2)
        self.setups = getattr(self, "setups", 0) + 1
        assert stage != "predict" or self.setups == 1

    def predict_dataloader(self) -> Any:
        return [DataLoader(TensorDataset(self.rows), batch_size=2), DataLoader(Streamed(), batch_size=2)]

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return [batch[0] * 10] if self.trainer.predicting and isinstance(batch, list) else batch


class Streamed(IterableDataset[torch.Tensor]):
    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter(torch.ones(5, 2))


def run_file(model: str = "Sums", data: str = "Ones", trainer: str = "") -> RunConfig:
    model = model if "." in model else f"{HERE}.{model}"
    return loads(
        f"model: {{class_path: {model}}}\ndata: {{class_path: {HERE}.{data}}}\nseed_everything: 1\n"
        f"trainer: {{max_epochs: 1, logger: false{trainer}}}\nscaling: {{use_gpu: false}}\n"
    )


def predict(store: Store, target: str = "out.parquet", data: str | None = "rows.parquet", **more: Any) -> Any:
    options: dict[str, Any] = {"batch_size": 2, "part_rows": 4, "columns": ("a", "b"), **more}
    event = predicting.predict(store, "r", PredictRequest(target, data, **options))
    return event, (pq.read_table(target) if target.endswith(".parquet") else pd.read_csv(target))


def write_rows(count: int = 11, name: str = "rows.parquet", first: int = 0, **options: Any) -> None:
    numbers = range(first, first + count)
    rows = {"id": [f"n{n}" for n in numbers], "a": [float(n) for n in numbers], "b": list(numbers)}
    pq.write_table(pa.table({**rows, "text": [str(n) for n in numbers]}), name, **options)


def test_each_row_of_a_parquet_file_has_its_prediction(store: Store) -> None:
    """11 rows in row groups of 3 and parts of 4: no border is another's."""
    trained_run(store, run_file())
    write_rows(row_group_size=3)
    event, table = predict(store, keep=("id",))
    assert table.to_pydict() == {
        "row": list(range(11)),
        "id": [f"n{n}" for n in range(11)],
        "prediction": [2.0 * n for n in range(11)],
    }
    assert (event["rows"], event["parts"], event["kept"]) == (11, 3, 0)
    assert not list(store.list("r/predictions")) and [path.name for path in Path.cwd().glob("*.*")].count("out.parquet")


def test_columns_by_name_and_texts_of_a_folder_of_csv(store: Store) -> None:
    """Files by name, each divided for itself; a CSV file's text has a line break."""
    trained_run(store, run_file())
    Path("many").mkdir()
    Path("many/1.csv").write_text('a,b,text\n1.5,1,"x\ny"\n2.5,2,z\n3.5,3,z\n')
    Path("many/0.csv").write_text("a,b,text\n0.5,0,w\n")
    _, table = predict(store, "out.csv", "many", columns=())
    assert table["row"].tolist() == [0, 1, 2, 3] and table["sum"].tolist() == [0.5, 2.5, 4.5, 6.5]
    assert table["text"].tolist() == ["w", "x\ny", "z", "z"]


def test_own_data_of_the_module_with_its_hooks(store: Store) -> None:
    trained_run(store, run_file(data="Own"))
    event, table = predict(store, data=None, columns=())
    assert table["prediction"].to_pylist() == [10.0 * (4 * n + 1) for n in range(10)] + [2.0] * 5
    assert event["parts"] == 4  # 4, 4 and 2 rows, and what has no length


def test_a_step_learns_which_loader_a_batch_is_from(store: Store) -> None:
    trained_run(store, run_file("Placed", "Own", ", limit_predict_batches: 1"))
    _, table = predict(store, data=None, columns=())
    assert table["prediction"].to_pylist() == [20.0 * n for n in range(10)] + [1.0] * 5


def test_a_part_is_loaded_as_its_loader_does() -> None:
    options = {
        "num_workers": 1,
        "worker_init_fn": print,
        "timeout": 7,
        "prefetch_factor": 3,
        "generator": torch.Generator(),
    }
    loader: Any = DataLoader(TensorDataset(torch.ones(9)), batch_size=2, collate_fn=list, **options)
    part = part_of_loader(loader, Part(0, 0, 4, 8))
    same = (*options, "dataset", "batch_size", "collate_fn", "multiprocessing_context")
    assert [getattr(part, name) for name in same] == [getattr(loader, name) for name in same]
    assert list(part.sampler) == [4, 5, 6, 7]


@pytest.mark.parametrize("target, names", [("o.parquet", ["prediction_0"]), ("o.csv", ["prediction_0_1_1"])])
def test_tensors_of_any_shape_are_lists_or_columns(store: Store, target: str, names: list[str]) -> None:
    trained_run(store, run_file("Embeds"))
    pq.write_table(pa.table({"x": pa.FixedSizeListArray.from_arrays(pa.array([0.0, 1, 2, 3]), 2)}), "rows.parquet")
    _, table = predict(store, target, columns=("x",))
    assert set(names) <= set(table.column_names if target == "o.parquet" else table.columns)
    if target == "o.parquet":
        assert table["prediction_0"].to_pylist() == [[[0, 1], [0, 1]], [[2, 3], [2, 3]]]
    assert list(table["prediction_1"].to_pylist() if target == "o.parquet" else table["prediction_1"]) == [0.0, 2.0]


def test_what_csv_has_not_is_said_before_a_part_is_kept(store: Store) -> None:
    trained_run(store, run_file())
    pq.write_table(pa.table({"a": [1.0] * 9, "b": [1.0] * 9, "s": [{"x": 1}] * 9}), "rows.parquet")
    with pytest.raises(TrainerError, match="column s has mappings, which CSV has not"):
        predict(store, "out.csv", keep=("s",))
    assert not [entry.key for entry in store.list("r/predictions") if "part-" in entry.key]


class Killed(BaseException):
    """As if the process were gone."""


def dies(*_: Any) -> Any:
    raise Killed


@pytest.mark.parametrize("when, kept", [("before a part", 2), ("before the file", 3), ("after the file", 3)])
def test_a_killed_prediction_continues_and_has_each_row_once(
    store: Store, monkeypatch: pytest.MonkeyPatch, when: str, kept: int
) -> None:
    trained_run(store, run_file())
    write_rows()
    predicted: list[int] = []
    real = Predictor.predict

    def note(self: Predictor, part: Any) -> int:
        if when == "before a part" and attempt == 1 and len(predicted) == 2:
            raise Killed
        predicted.append(part.index)
        assert not find_orphans(store, older_than_s=-1)  # somebody works on it
        return real(self, part)

    monkeypatch.setattr(Predictor, "predict", note)
    attempt = 1
    with monkeypatch.context() as dying:
        if when == "before the file":
            dying.setattr(predicting, "_assemble", dies)
        if when == "after the file":
            dying.setattr(type(store), "delete_prefix", dies)
        with pytest.raises(Killed):
            predict(store)
    assert Path("out.parquet").exists() == (when == "after the file")
    assert [orphan.what for orphan in find_orphans(store, older_than_s=-1)] == ["incomplete prediction"]
    attempt = 2
    event, table = predict(store)
    assert predicted == [0, 1, 2] and event["kept"] == kept
    assert table["row"].to_pylist() == list(range(11))
    assert table["prediction"].to_pylist() == [2.0 * n for n in range(11)]
    assert not list(store.list("r/predictions"))


def test_other_rows_of_the_same_name_are_another_prediction(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    trained_run(store, run_file())
    write_rows()
    with monkeypatch.context() as dying:
        dying.setattr(predicting, "_assemble", dies)
        with pytest.raises(Killed):
            predict(store)
    write_rows(first=100)
    event, table = predict(store)
    assert event["kept"] == 0 and table["prediction"].to_pylist()[0] == 200.0


class Interrupted(Sums):
    def predict_step(self, batch: Any, index: int) -> Any:
        raise KeyboardInterrupt


def test_ctrl_c_is_no_error_of_the_users_code(store: Store) -> None:
    trained_run(store, run_file("Interrupted"))
    write_rows()
    with pytest.raises(KeyboardInterrupt):
        predict(store)


def test_changed_code_is_another_prediction(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the code before its change predicted, until it failed, is not among what it predicts now."""
    monkeypatch.syspath_prepend(str(Path.cwd()))
    code = f"from {HERE} import Sums\nclass Mine(Sums):\n    def predict_step(self, batch, index):\n        "
    Path("mine_to_change.py").write_text(f"{code}assert index == 0 and batch[0, 0] < 6\n        return batch[:, 0]\n")
    trained_run(store, run_file("mine_to_change.Mine"))
    write_rows()
    with pytest.raises(UserError, match="AssertionError"):
        predict(store, part_rows=2)
    Path("mine_to_change.py").write_text(f"{code}return 10 * batch[:, 0]\n")
    del sys.modules["mine_to_change"]
    importlib.invalidate_caches()
    event, table = predict(store, part_rows=2)
    assert event["kept"] == 0 and table["prediction"].to_pylist() == [10.0 * n for n in range(11)]


@pytest.mark.parametrize(
    "model, said, error",
    [
        ("Short", "predict_step returned 6 predictions for 8 rows; it must return one a row", TrainerError),
        ("Silent", "predict_step returned nothing", TrainerError),
        ("Fails", r"ValueError: seven \(tests/unit/test_train_predict.py:\d+\)", UserError),
    ],
)
def test_what_predict_step_does_wrong_is_said(store: Store, model: str, said: str, error: type[TrainerError]) -> None:
    trained_run(store, run_file(model))
    write_rows(8)
    with pytest.raises(error, match=said):
        predict(store, part_rows=8, batch_size=4)
    assert not Path("out.parquet").exists()


@pytest.mark.parametrize(
    "columns, said",
    [
        ((), r"its batch was a mapping of all columns of --data \(id, a, b, text\); for one tensor .*: --columns A,B$"),
        (("a",), r"its batch was one tensor, of --columns a; --data has id, a, b, text$"),
    ],
)
def test_columns_that_do_not_fit_the_module_are_said(store: Store, columns: tuple[str, ...], said: str) -> None:
    trained_run(store, run_file("Pairs"))
    write_rows()
    with pytest.raises(UserError, match=rf"^(Attribute|Runtime)Error: .*; {said}") as raised:
        predict(store, columns=columns)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "options, said",
    [
        ({"columns": ("a", "c")}, r"rows.parquet has no column c; it has id, a, b, text"),
        ({"columns": ("a", "text")}, "column text has no numbers"),
        ({"keep": ("prediction",)}, "has no column prediction"),
        ({"target": "out.txt"}, r"-o out.txt: its name must end with .parquet or .csv"),
        ({"data": None}, "--columns and --keep are of the rows of --data"),
        ({"data": None, "columns": ()}, "the run's data has no predict_dataloader: write one, or give --data"),
        ({"data": "gone.csv"}, "--data gone.csv: there is no such file"),
        ({"data": "empty"}, r"--data empty: no file \*.csv or \*.parquet is there"),
        ({"data": "bad.parquet"}, "bad.parquet can't be read: "),
        ({"data": "holes.csv"}, "column b has no value in 1 rows"),
        ({"data": "none.csv"}, "there are no rows to predict"),
        ({"keep": ("row",)}, "--keep row: the output has the number of each row under this name"),
        ({"data": "twice.csv"}, "twice.csv has two columns a: give one of them another name"),
        ({"data": "rows.tsv"}, r"--data rows.tsv is not a file \*.csv or \*.parquet, or a folder of them"),
        ({"target": "rows.parquet"}, "-o rows.parquet is among the files of --data"),
        ({"target": "./in/rows.csv", "data": "in"}, "-o ./in/rows.csv is among the files of --data"),
    ],
)
def test_what_can_not_be_predicted_is_said_in_one_line(store: Store, options: dict[str, Any], said: str) -> None:
    trained_run(store, run_file())
    write_rows()
    Path("empty").mkdir()
    Path("bad.parquet").write_text("no parquet")
    Path("holes.csv").write_text("a,b\n1,2\n1,\n")
    Path("none.csv").write_text("a,b\n")
    Path("twice.csv").write_text("a,b,a\n1,2,3\n")
    Path("rows.tsv").write_text("a\tb\n1\t2\n")
    Path("in").mkdir()
    Path("in/rows.csv").write_text("a,b\n1,2\n")
    with pytest.raises((InputError, NotFoundError), match=said) as refused:
        predict(store, **options)
    assert "\n" not in str(refused.value) and refused.value.exit_code == 2


def test_the_verb_says_what_it_wrote(store: Store, capfd: pytest.CaptureFixture[str]) -> None:
    trained_run(store, run_file())
    write_rows()
    command = ["predict", f"{store.uri}/r", "--data", "rows.parquet", "--columns", "a, b", "--log", "-"]
    assert main([*command, "--part-size", "4", "--batch-size", "4", "-o", "new/out.csv"]) == 0
    assert capfd.readouterr().out.startswith("new/out.csv: 11 rows\ncheckpoint: ")
    assert main([*command, "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["file"] == "r-predictions.parquet"
    assert main([*command[:4], "--columns", "z", "--log", "-"]) == 2
    assert "has no column z" in capfd.readouterr().err


def test_rows_of_lists_of_any_length() -> None:
    ragged = to_table([{"a": [[1], [1, 2], []], "b": [torch.ones(1), torch.ones(2), torch.ones(0)]}], 3)
    assert ragged.to_pydict() == {"a": [[1], [1, 2], []], "b": [[1.0], [1.0, 1.0], []]}


@pytest.mark.parametrize(
    "output, said",
    [
        ({"row": torch.ones(2)}, "predict_step returns a column row"),
        ([1, "a"], "prediction can't be a column: "),
        (torch.ones(2, dtype=torch.complex64), "prediction can't be a column: "),
        (torch.ones(2, 0), "prediction can't be a column: "),
        ([2**70, 1], "prediction can't be a column: "),
        ({"a": torch.ones(2), "b": torch.ones(1)}, r"columns of different lengths \(a 2, b 1\)"),
    ],
)
def test_what_is_no_column_is_said(output: Any, said: str) -> None:
    with pytest.raises(TrainerError, match=said):
        to_table([output], 2)


def part_files(folder: Path, *outputs: Any) -> list[Path]:
    """Each output as a part of its own."""
    files = [folder / f"part-{number}" for number in range(len(outputs))]
    for file, output in zip(files, outputs, strict=True):
        pq.write_table(to_table([output]), file)
    return files


def test_no_column_takes_the_place_of_another(tmp_path: Path) -> None:
    files = part_files(tmp_path, {"a": torch.ones(2, 2), "a_0": torch.ones(2)})
    with pytest.raises(TrainerError, match="two columns of the CSV file would be named a_0"):
        write_file(files, tmp_path / "x", ".csv")
    assert write_file(files, tmp_path / "x", ".parquet") == 2


@pytest.mark.parametrize(
    "first, second, rows",
    [
        ([1, 2], [0.5], [1.0, 2.0, 0.5]),
        ([None], ["x"], [None, "x"]),
        ([[]], [[1]], [[], [1]]),
        (torch.ones(1, 2), torch.ones(1, 3), [[1.0] * 2, [1.0] * 3]),  # padded to the longest of each batch
        ([torch.ones(1), torch.ones(2)], [torch.ones(2)], [[1.0], [1.0] * 2, [1.0] * 2]),
        (torch._neg_view(torch.ones(1)), torch.ones(1), [-1.0, 1.0]),
    ],
)
def test_parts_may_have_other_types_of_the_same_kind(tmp_path: Path, first: Any, second: Any, rows: list[Any]) -> None:
    write_file(part_files(tmp_path, first, second), tmp_path / "x", ".parquet")
    assert pq.read_table(tmp_path / "x")["prediction"].to_pylist() == rows
    assert to_table([first, second])["prediction"].to_pylist() == rows  # as in one part


@pytest.mark.parametrize(
    "first, second, said",
    [
        ([1], ["x"], "another type for some rows than for others: .* int64 vs string"),
        ({"a": [1]}, {"b": [1]}, "other columns for some rows than for others"),
        ([{"a": 1}], [{"a": 1}], "column prediction has mappings, which CSV has not: write a .parquet file"),
        ([b"\xff"], [b"\xff"], r"a \.csv file can't have these predictions: Invalid UTF8"),
    ],
)
def test_parts_that_no_file_can_have_are_said(tmp_path: Path, first: Any, second: Any, said: str) -> None:
    with pytest.raises(TrainerError, match=said):
        write_file(part_files(tmp_path, first, second), tmp_path / "x", ".csv")


def test_a_folder_that_is_named_as_a_file(store: Store) -> None:
    """As Spark and Dask write them."""
    trained_run(store, run_file())
    Path("rows.parquet").mkdir()
    write_rows(name="rows.parquet/part-0.parquet")
    event, _ = predict(store)
    assert event["rows"] == 11
