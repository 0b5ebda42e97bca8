"""What a run writes about itself, and what is read back."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from trainer_app.errors import AlreadyExistsError, InputError, NotFoundError, StorageError
from trainer_app.records import (
    FitFolder,
    RunFolder,
    RunRecord,
    TrialRecord,
    check_name,
    generate_name,
    parse_part_key,
    to_json,
    trial_name,
)
from trainer_app.records import folder as folder_module
from trainer_app.records.models import EpochLine
from trainer_app.records.plain_json import from_json
from trainer_app.run_names import RUN_NAME_MAX
from trainer_app.storage import Store, open_store

pytestmark = pytest.mark.unit


@pytest.fixture
def storage(tmp_path: Path) -> Store:
    return open_store(str(tmp_path))


def refuse_constant(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def strict(data: bytes) -> Any:
    """As a parser that holds to the RFC reads it."""
    return json.loads(data, parse_constant=refuse_constant)


def same(a: Any, b: Any) -> bool:
    """Equal, NaN to NaN, and of the same type."""
    if isinstance(a, float) and isinstance(b, float) and math.isnan(a):
        return math.isnan(b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return type(a) is type(b) and bool(a == b)


def run(name: str = "mnist-1", **fields: Any) -> RunRecord:
    return RunRecord(name=name, task="tune", created=10.5, updated=11.5, **fields)


AWKWARD: dict[str, Any] = {
    "lr": 1e-05,
    "exact": 0.1 + 0.2,
    "big": 2**63 + 1,
    "nan": math.nan,
    "inf": math.inf,
    "-inf": -math.inf,
    "text": "nan",
    "other": "inf",
    "flag": True,
    "nothing": None,
    "nested": {"a": [1, 2.0, "x"]},
    'ünï\n"code"': "日本",
    "lookalike": {"$float": "3"},
}


def test_records_come_back_as_they_were() -> None:
    record = run(seed=2**40, metric="val/acc", mode="max", best=math.nan, resolved=AWKWARD, error="a\nb\udc80")
    strict(record.to_json())
    again = RunRecord.from_json(record.to_json(), "run.json")
    assert same(again.model_dump(), record.model_dump())
    trial = TrialRecord(
        trial="t00003", index=3, params=AWKWARD, metrics={"val/loss": -math.inf, "a": 1.5}, best=math.inf
    )
    strict(trial.to_json())
    assert b"\n" not in trial.to_json()
    assert same(TrialRecord.from_json(trial.to_json(), "x").model_dump(), trial.model_dump())


def test_how_non_finite_numbers_are_written() -> None:
    trial = TrialRecord(trial="t", index=0, params={"a": math.inf, "b": "inf"}, metrics={"m": math.nan}, best=-math.inf)
    written = strict(trial.to_json())
    assert written["metrics"] == {"m": "nan"} and written["best"] == "-inf"
    assert written["params"] == {"a": {"$float": "inf"}, "b": "inf"}
    assert strict(to_json([math.nan, {"a": math.inf}])) == ["nan", {"a": "inf"}]
    assert from_json(to_json(math.inf, tagged=True)) == math.inf


class Scalar:
    """As numpy's and torch's numbers behave."""

    size = 1

    def __init__(self, value: Any) -> None:
        self.value = value

    def item(self) -> Any:
        return self.value


class Tensor(Scalar):
    def numel(self) -> int:
        return 1


def test_numbers_of_numpy_and_torch_become_plain() -> None:
    trial = TrialRecord(trial="t", index=0, params={"n": Scalar(3), "l": (1, Tensor(2.5))}, metrics={"a": Tensor(0.5)})
    assert trial.params == {"n": 3, "l": [1, 2.5]} and type(trial.params["n"]) is int
    assert trial.metrics == {"a": 0.5}
    line = EpochLine(epoch=0, metrics={"none": None, "flag": True, "int": 1})
    assert math.isnan(line.metrics["none"]) and line.metrics["flag"] == line.metrics["int"] == 1.0


@pytest.mark.parametrize("value", [object(), {1, 2}, b"x", lambda: None, {"a": {"b": object()}}])
def test_what_cannot_be_recorded_is_refused(value: Any) -> None:
    with pytest.raises(InputError, match="can't be recorded; give numbers, strings, lists or mappings"):
        TrialRecord(trial="t", index=0, params={"key": value})


def test_a_newer_record_is_read() -> None:
    newer = {**strict(run().to_json()), "queue": {"a": 1}, "format": 7}
    assert RunRecord.from_json(json.dumps(newer).encode(), "run.json") == run()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "run.json is damaged: it is empty"),
        (b'{"name": "a", "ta', "run.json is damaged: "),
        (b"\xff\xfe\x00garbage", "run.json is damaged: "),
        (b"[" * 100_000, "run.json is damaged"),
        (b"[]", "run.json is damaged or of a newer version: it: "),
        (b'{"name": "a"}', "run.json is damaged or of a newer version: task: Field required"),
        (b'{"name": "a", "task": "train", "versions": {"ray": [1]}}', "newer version: versions.ray: Input should be"),
        (b'{"name": "a", "task": "train", "state": "paused"}', "newer version: state: Input should be 'running'"),
    ],
)
def test_a_damaged_record_gives_one_line(data: bytes, said: str) -> None:
    with pytest.raises(StorageError) as caught:
        RunRecord.from_json(data, "run.json")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_create_open_update(storage: Store) -> None:
    folder = RunFolder.create(storage, run(versions={"torch": "2"}), "name: ü\n")
    assert (folder.name, folder.uri) == ("mnist-1", f"{storage.uri}/mnist-1")
    again = RunFolder.open(storage, "mnist-1")
    assert again.record == run(versions={"torch": "2"}) and again.read_config() == "name: ü\n"
    again.update(state="failed", error="boom", best=math.nan, attempt=2)
    read = RunFolder.open(storage, "mnist-1").record
    assert (read.state, read.error, read.attempt, read.created) == ("failed", "boom", 2, 10.5)
    assert read.best is not None and math.isnan(read.best) and read.updated > 11.5
    with pytest.raises(TypeError, match="no field stat"):
        again.update(stat="failed")
    with pytest.raises(ValueError, match="state"):
        again.update(state="done")
    assert RunFolder.open(storage, "mnist-1").record.state == "failed"


def test_an_existing_run_is_refused(storage: Store) -> None:
    RunFolder.create(storage, run(seed=1), "first")
    with pytest.raises(AlreadyExistsError, match=r"mnist-1.*--resume mnist-1") as caught:
        RunFolder.create(storage, run(seed=2), "second")
    assert caught.value.exit_code == 2
    assert RunFolder.open(storage, "mnist-1").record.seed == 1
    assert RunFolder.open(storage, "mnist-1").read_config() == "first"


def test_one_of_eight_creators_wins(storage: Store) -> None:
    barrier = threading.Barrier(8)

    def create(number: int, name: str) -> bool:
        barrier.wait()
        try:
            RunFolder.create(storage, run(name, seed=number), f"seed: {number}")
        except AlreadyExistsError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        for race in range(20):
            name = f"run-{race}"
            won = list(pool.map(create, range(8), [name] * 8))
            assert won.count(True) == 1
            folder = RunFolder.open(storage, name)
            assert folder.record.seed == won.index(True)
            assert folder.read_config() == f"seed: {won.index(True)}"


def test_no_such_run(storage: Store) -> None:
    with pytest.raises(NotFoundError, match="there are no runs there"):
        RunFolder.open(storage, "mnist-1")
    for name in ("mnist-1", "mnist-2", "fashion-9"):
        RunFolder.create(storage, run(name), "")
    with pytest.raises(NotFoundError, match=r"no run 'mnits-1' in .*; did you mean 'mnist-1' or 'mnist-2'\?") as caught:
        RunFolder.open(storage, "mnits-1")
    assert caught.value.exit_code == 2
    with pytest.raises(NotFoundError, match="runs there: fashion-9, mnist-1, mnist-2"):
        RunFolder.open(storage, "zzz")
    with pytest.raises(InputError):
        RunFolder.open(storage, "../elsewhere")


def test_a_start_that_was_cut_short(storage: Store) -> None:
    storage.put("mnist-1/run.json", run().to_json(), create=True)
    with pytest.raises(
        NotFoundError, match=r"no run\.yaml: its start was interrupted; start it again, without --resume"
    ):
        RunFolder.open(storage, "mnist-1").read_config()


def test_trials(storage: Store, caplog: pytest.LogCaptureFixture) -> None:
    folder = RunFolder.create(storage, run(), "")
    assert folder.read_trials() == []
    for index in (10, 2, 1):
        folder.write_trial(TrialRecord(trial=trial_name(index), index=index, params={"lr": 0.1 * index}))
    folder.write_trial(TrialRecord(trial=trial_name(2), index=2, state="stopped", reason="ASHA"))
    folder.fit_folder("t00099").append_epoch(1, {"epoch": 0, "metrics": {}})  # has no record yet
    assert [(t.index, t.state, t.reason) for t in folder.read_trials()] == [
        (1, "pending", ""),
        (2, "stopped", "ASHA"),
        (10, "pending", ""),
    ]
    storage.put(f"mnist-1/trials/{trial_name(1)}/trial.json", b"{")
    assert [t.index for t in folder.read_trials()] == [2, 10]
    assert "trials/t00001/trial.json is damaged" in caplog.text


@dataclass
class Counting:
    """Counts what goes to the store that it stands for."""

    inner: Store
    calls: list[tuple[str, str]]

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            self.calls.append((name, str(args[0]) if args else ""))
            return getattr(self.inner, name)(*args, **options)

        return call


def test_an_epoch_is_one_put(storage: Store) -> None:
    counting = Counting(storage, [])
    fit_folder = FitFolder(counting)
    counting.calls.clear()
    for epoch in range(3):
        fit_folder.append_epoch(
            1, {"epoch": epoch, "step": 45 * epoch, "metrics": {"val/acc": 0.5}, "elapsed": 1.25, "time": 7}
        )
    assert counting.calls == [("list", "metrics"), *[("put", "metrics/a0001-0000.jsonl")] * 3]
    assert fit_folder.read_metrics() == [
        {
            "epoch": epoch,
            "step": 45 * epoch,
            "time": 7.0,
            "elapsed": 1.25,
            "committed": 0.0,
            "metrics": {"val/acc": 0.5},
        }
        for epoch in range(3)
    ]


def test_parts(storage: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_module, "PART_LINES", 3)
    fit_folder = FitFolder(storage.child("u"))
    for epoch in range(8):
        fit_folder.append_epoch(1, {"epoch": epoch})
    parts = {e.key: storage.get(f"u/metrics/{e.key}").count(b"\n") for e in storage.list("u/metrics")}
    assert parts == {"a0001-0000.jsonl": 3, "a0001-0001.jsonl": 3, "a0001-0002.jsonl": 2}
    assert [line["epoch"] for line in fit_folder.read_metrics()] == list(range(8))


def epochs(fit_folder: FitFolder) -> Iterator[tuple[int, float]]:
    for line in fit_folder.read_metrics():
        yield line["epoch"], line["metrics"]["m"]


def test_a_later_attempt_replaces_the_same_epoch(storage: Store) -> None:
    fit_folder = FitFolder(storage)
    for epoch in range(4):
        fit_folder.append_epoch(1, {"epoch": epoch, "metrics": {"m": 1.0}})
    second = FitFolder(storage)
    for epoch in (2, 3, 4):
        second.append_epoch(2, {"epoch": epoch, "metrics": {"m": 2.0}})
    FitFolder(storage).append_epoch(10, {"epoch": 4, "metrics": {"m": 10.0}})
    assert list(epochs(fit_folder)) == [(0, 1.0), (1, 1.0), (2, 2.0), (3, 2.0), (4, 10.0)]


def test_a_worker_started_again_overwrites_nothing(storage: Store) -> None:
    """Within one attempt Ray may start a worker group again, from a commit some epochs back."""
    first = FitFolder(storage)
    for epoch in range(3):
        first.append_epoch(1, {"epoch": epoch, "metrics": {"m": 1.0}})
    again = FitFolder(storage)
    for epoch in (1, 2, 3):
        again.append_epoch(1, {"epoch": epoch, "metrics": {"m": 2.0}})
    assert list(epochs(first)) == [(0, 1.0), (1, 2.0), (2, 2.0), (3, 2.0)]


def test_a_failed_put_loses_no_line(storage: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fit_folder = FitFolder(storage.child("u"))
    fit_folder.append_epoch(1, {"epoch": 0, "metrics": {"m": 0.0}})
    with monkeypatch.context() as patch:
        patch.setattr(type(storage), "put", lambda *_: (_ for _ in ()).throw(StorageError("down")))
        with pytest.raises(StorageError):
            fit_folder.append_epoch(1, {"epoch": 1, "metrics": {"m": 1.0}})
    fit_folder.append_epoch(1, {"epoch": 2, "metrics": {"m": 2.0}})
    assert list(epochs(fit_folder)) == [(0, 0.0), (1, 1.0), (2, 2.0)]


def test_metrics_that_are_not_numbers(storage: Store) -> None:
    fit_folder = FitFolder(storage)
    fit_folder.append_epoch(1, {"epoch": 0, "metrics": {"val/loss": math.nan, "a b": math.inf, "ü/x.y": -math.inf}})
    raw = storage.get("metrics/a0001-0000.jsonl")
    assert strict(raw.splitlines()[0])["metrics"] == {"val/loss": "nan", "a b": "inf", "ü/x.y": "-inf"}
    metrics = fit_folder.read_metrics()[0]["metrics"]
    assert math.isnan(metrics["val/loss"]) and metrics["a b"] == math.inf and metrics["ü/x.y"] == -math.inf


LINE = b'{"epoch": 1, "metrics": {"m": 1}}'


@pytest.mark.parametrize(
    "damage",
    [LINE[:20], b"[]", b"null", b"\xff\x00", b'{"epoch": "x"}', b"{}", b"7", b"[" * 5000]
    + [b'{"epoch": 1, "metrics": %s}' % value for value in (b"7", b'"x"', b"[1]", b"true", b"1e999")],
)
def test_a_damaged_line(damage: bytes, storage: Store, caplog: pytest.LogCaptureFixture) -> None:
    storage.put("metrics/a0001-0000.jsonl", b'{"epoch": 0}\n' + damage + b'\n{"epoch": 2}\n')
    storage.put("metrics/notes.txt", b"not ours")
    assert [line["epoch"] for line in FitFolder(storage).read_metrics()] == [0, 2]
    (logged,) = caplog.messages
    assert logged.startswith("metrics/a0001-0000.jsonl, line 2, is damaged") and "\n" not in logged


def test_part_order() -> None:
    assert parse_part_key("trials/t/metrics/a0012-0003.jsonl") == (12, 3)
    assert parse_part_key("a12345-0003.jsonl") == (12345, 3)
    for other in ("a1.jsonl", "metrics/a0001-0000.jsonl.bak", "x"):
        assert parse_part_key(other) is None


@pytest.mark.parametrize("name", ["a", "mnist-1", "a" * RUN_NAME_MAX, "m-261122051530"])
def test_good_names(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "A", "1a", "-a", "a-", "a_b", "a.b", "a/b", "a" * 45, "ä", "a\n"])
def test_bad_names(name: str, storage: Store) -> None:
    with pytest.raises(
        InputError, match=r"must be lower-case letters, digits and dashes|has 45 characters, at most 44"
    ):
        check_name(name)
    with pytest.raises(InputError):
        RunFolder.create(storage, run(name), "")
    assert list(storage.list()) == []


@pytest.mark.parametrize(
    ("base", "name"),
    [
        ("mnist", "mnist-261122051530"),
        (None, "run-261122051530"),
        ("My Run_2!", "my-run-2-261122051530"),
        ("2fast", "run-2fast-261122051530"),
        ("a" * 60, "a" * 31 + "-261122051530"),
        ("日本", "run-261122051530"),
    ],
)
def test_new_names(base: str | None, name: str) -> None:
    assert generate_name(base, now=1795324530.9) == check_name(name)
