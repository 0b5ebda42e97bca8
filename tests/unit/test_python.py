"""Runs in Python: what `from trainer_app import ...` gives."""

from __future__ import annotations

import inspect
import json
import math
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

import trainer_app
from tests.run_samples import train_run, tune_run
from trainer_app import api
from trainer_app import checkpoint as ckpt
from trainer_app.api import starting
from trainer_app.api.arguments import to_items, to_list
from trainer_app.api.run import ClusterSide
from trainer_app.errors import (
    ConfigError,
    InputError,
    NotFoundError,
    RunFailedError,
    StorageUnavailableError,
    TrainerError,
)
from trainer_app.run.request import RunRequest, prepare_run
from trainer_app.storage import Store, open_store

pytestmark = pytest.mark.unit
ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "trainer_app/examples/mnist/train.yaml"


class Net(L.LightningModule):
    def __init__(self, width: int = 2) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(width, 1)


SURFACE = """
Checkpoint(run, trial, name, uri, epochs, step, metrics, size)
  download(folder)
  load(module, allow, arguments)
InputError
Run(uri, name, cluster)
  best
  check()
  checkpoints()
  metrics(trial)
  opened()
  report()
  snapshot()
  state
  stop(grace)
  trials()
  wait(timeout)
RunFailedError
TrainerError
load_run(run, storage, namespace, context, endpoint)
runs(storage)
submit(task, files, values, namespace, options)
train(files, options)
tune(files, options)
validate(files, overrides, task)
"""


def describe(name: str) -> list[str]:
    """What can be called of a public name, and with what."""
    value = getattr(trainer_app, name)
    if isinstance(value, type) and issubclass(value, Exception):
        return [name]
    members = vars(value) if isinstance(value, type) else {}
    fields = set(getattr(value, "__dataclass_fields__", ()))
    public = {one: what for one, what in sorted(members.items()) if not one.startswith("_") and one not in fields}
    shown = [f"  {one}" if isinstance(what, property) else f"  {call(one, what)}" for one, what in public.items()]
    return [call(name, value), *shown]


def call(name: str, function: Any) -> str:
    return f"{name}({', '.join(one for one in inspect.signature(function).parameters if one != 'self')})"


def test_the_surface_is_what_it_was() -> None:
    assert len(trainer_app.__all__) <= 15
    assert [line for name in trainer_app.__all__ for line in describe(name)] == SURFACE.strip().splitlines()
    page = (ROOT / "docs/python.md").read_text()
    assert [name for name in trainer_app.__all__ if f"`{name}" not in page] == []
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        trainer_app.nothing  # noqa: B018


def test_the_names_stay_functions_when_the_packages_are_imported() -> None:
    code = (
        "import trainer_app.training.driver, trainer_app.tuning, trainer_app.run\n"
        "from trainer_app import submit, train, tune, validate, runs\n"
        "assert all(callable(one) for one in (submit, train, tune, validate, runs))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_runs_of_a_storage(storage: Store, tmp_path: Path) -> None:
    assert api.runs() == []
    train_run(storage, created=1.0)
    tune_run(storage, created=2.0)
    assert [run.name for run in api.runs()] == [run.name for run in api.runs(tmp_path / "runs")]
    assert [run.name for run in api.runs()] == ["mnist-1", "fashion-1"]
    assert api.load_run().name == "mnist-1" and api.load_run("runs/fashion-1").name == "fashion-1"
    with pytest.raises(NotFoundError, match="fashion-1"):
        api.load_run("fashoin-1")


@pytest.mark.parametrize("pandas", [True, False])
def test_tables(storage: Store, monkeypatch: pytest.MonkeyPatch, pandas: bool) -> None:
    if not pandas:
        monkeypatch.setitem(sys.modules, "pandas", None)
    train_run(storage)
    tune_run(storage)
    rows: Any = api.load_run("fashion-1").metrics()
    trials: Any = api.load_run("mnist-1").trials()
    one: Any = api.load_run("mnist-1").metrics("t00001")
    if pandas:
        rows, trials, one = (frame.to_dict("records") for frame in (rows, trials, one))
    assert [(row["epoch"], row["val/acc"]) for row in rows] == [(0, 0.5), (1, 0.9), (2, 0.7)]
    assert [(row["trial"], row["state"], row["epochs"]) for row in trials][:2] == [
        ("t00000", "stopped", 1),
        ("t00001", "finished", 3),
    ]
    assert trials[1]["val/acc"] == 0.95 and trials[1]["model.init_args.lr"] == 0.05
    assert [row["val/acc"] for row in one] == [0.8, 0.95, 0.9]


def test_the_best_checkpoint_is_loaded_into_the_module(storage: Store, tmp_path: Path) -> None:
    folder, module = train_run(storage), Net(3)
    trainer = L.Trainer(max_steps=0, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.strategy.connect(module)
    trainer.save_checkpoint(tmp_path / "own.ckpt")
    for epochs, value in ((4, 0.95), (5, 0.1)):
        name = f"a0001-e{epochs:06d}-s{epochs * 10:09d}"
        store = folder.fit_folder().checkpoints.child(name)
        data = (tmp_path / "own.ckpt").read_bytes()
        store.put("checkpoint.ckpt", data)
        manifest = {
            "name": name, "epochs": epochs, "step": epochs * 10, "attempt": 1, "world_size": 1, "time": 7.0,
            "metrics": {"val/acc": value},
            "objects": {"checkpoint.ckpt": {"size": len(data), "sha256": _sha256(data)}},
        }  # fmt: skip
        store.put("manifest.json", ckpt.Manifest.model_validate(manifest).to_json())
    run = api.load_run("fashion-1")
    best = run.best
    assert best is not None and best.metrics == {"val/acc": 0.95} and best.epochs == 4
    loaded = best.load(Net)
    assert loaded.hparams.width == 3 and torch.equal(loaded.layer.weight, module.layer.weight)
    with pytest.raises(RuntimeError, match="size mismatch"):
        best.load(Net, width=2)
    assert [one.epochs for one in run.checkpoints()] == [1, 2, 3, 4, 5]
    damaged = open_store("runs").child("fashion-1/checkpoints").child(best.name)
    damaged.put("checkpoint.ckpt", data[:-1] + b"!")
    with pytest.raises(TrainerError, match="SHA-256"):
        best.load(Net)


def _sha256(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()


def test_wait(storage: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer_app.api.patience.POLL_S", 0.01)
    folder = train_run(storage)
    run = api.load_run("fashion-1")
    with pytest.raises(TimeoutError, match="fashion-1 has not ended"):
        run.wait(0.05)
    with pytest.raises(InputError, match="interrupt the process"):
        run.stop()
    waiting = threading.Timer(0.05, lambda: folder.update(state="succeeded"))
    waiting.start()
    assert run.wait(30) is run
    waiting.join()
    folder.update(state="running")
    monkeypatch.setattr("trainer_app.run.abandoned.is_abandoned", lambda uri: True)
    with pytest.raises(RunFailedError, match="its process is gone"):
        run.wait(30)
    folder.update(state="failed", error="ValueError: no")
    with pytest.raises(RunFailedError, match="run fashion-1 failed: ValueError: no"):
        run.wait()


def test_waiting_outlives_a_storage_that_is_silent_for_a_while(storage: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer_app.api.patience.POLL_S", 0.01)
    train_run(storage, state="succeeded")
    run, silent = api.load_run("fashion-1"), [StorageUnavailableError("no answer")] * 3
    opened = open_store

    def open_sometimes(uri: str) -> Store:
        if silent:
            raise silent.pop()
        return opened(uri)

    monkeypatch.setattr("trainer_app.api.run.open_store", open_sometimes)
    assert run.wait(30) is run and silent == []
    silent += [StorageUnavailableError("no answer")] * 1000
    monkeypatch.setattr("trainer_app.api.patience.PATIENCE_S", 0.05)
    with pytest.raises(StorageUnavailableError, match="no answer"):
        run.wait(30)


def test_what_is_wrong_starts_nothing(storage: Store, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("name: x\nmodle: {}\n")
    for start in (api.train, api.tune, api.validate):
        with pytest.raises(ConfigError, match="modle"):
            start("run.yaml")
    with pytest.raises(InputError, match="no run file"):
        api.train()
    assert not (tmp_path / "runs").exists()


CHILD = """
import signal, sys, time
def leave(*_):
    print("interrupted; resume with: ...", flush=True)
    sys.exit(130)
signal.signal(signal.SIGINT, leave)
print("epoch 1/9", flush=True)
time.sleep(60)
"""


def test_ctrl_c_reaches_the_run_and_what_it_says_is_shown(storage: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starting, "COMMAND", (sys.executable, "-c", CHILD))
    lines: list[str] = []

    def show(line: str) -> None:
        lines.append(line)
        if line == "epoch 1/9":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        api.train(EXAMPLE, name="x", show=show)
    assert lines == ["epoch 1/9", "interrupted; resume with: ..."]


@pytest.mark.parametrize(
    "code, error, text",
    [(2, InputError, "no such; thing"), (1, RunFailedError, "ended with exit code 1"), (130, KeyboardInterrupt, None)],
)
def test_how_the_command_ends(
    storage: Store, monkeypatch: pytest.MonkeyPatch, code: int, error: type[BaseException], text: str | None
) -> None:
    train_run(storage, "x", state="succeeded")
    said = "print('error: no such'); print('error: thing');" if code == 2 else ""
    monkeypatch.setattr(starting, "COMMAND", (sys.executable, "-c", f"import sys; {said} sys.exit({code})"))
    with pytest.raises(error, match=text):
        api.tune(EXAMPLE.with_name("tune.yaml"), name="x", show=lambda line: None)


def test_the_command_has_what_was_asked_for(storage: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        starting, "COMMAND", (sys.executable, "-c", "import json, sys; print(json.dumps(sys.argv[1:]))")
    )
    lines: list[str] = []
    overrides = {"trainer.max_epochs": 2, "data.init_args.source": "digits"}
    options = {"name": "x", "storage": "s3://bucket/runs", "test": True, "allow": ["m.C"], "import_from": ["code"]}
    run = api.train(EXAMPLE, overrides=overrides, show=lines.append, **options)
    assert (run.name, run.uri) == ("x", "s3://bucket/runs")
    assert json.loads(lines[0]) == [
        "train", str(EXAMPLE), "trainer.max_epochs=2", 'data.init_args.source="digits"', "--name", "x",
        "--storage", "s3://bucket/runs", "--test", "--allow", "m.C", "--import-from", "code",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "value, stored",
    [
        *((text, text) for text in ("é😀\x7f\x85\u2028\x00\n\"\\", "\\ud83d\\ude00", "null", "")),
        *((1e-7, 1e-7), (None, None), (float("inf"), float("inf")), ([], []), ({}, {})),
        ({"a": {"b": [1, None, "yes", -float("inf")]}}, {"a": {"b": [1, None, "yes", -float("inf")]}}),
        *(((1, 2), [1, 2]), (Path("/x y"), "/x y"), (torch.tensor([1, 2]), [1, 2]), (torch.tensor(0.5), 0.5)),
    ],
)  # fmt: skip
def test_an_override_is_the_value_that_was_passed(tmp_path: Path, value: Any, stored: Any) -> None:
    (tmp_path / "a=b.yaml").write_text("model: {class_path: m.M, init_args: {x: 1}}\ntrainer: {max_epochs: 2}\n")
    items = to_items([tmp_path / "a=b.yaml"], {"model.init_args.x": value})
    config = prepare_run(RunRequest("train", items), env={}).config
    assert config.model and config.model["init_args"]["x"] == stored
    nan = prepare_run(RunRequest("train", to_items([tmp_path / "a=b.yaml"], {"model.init_args.x": float("nan")})))
    assert nan.config.model and math.isnan(nan.config.model["init_args"]["x"])


def test_a_path_is_a_file_and_no_file_is_an_option() -> None:
    assert to_items([Path("a=b c.yaml"), "-r.yaml", "k=1", Path("/a=b")], None) == [
        "./a=b c.yaml",
        "./-r.yaml",
        "k=1",
        "/a=b",
    ]
    assert (to_list("m.C"), to_list(Path("a")), to_list(["a", Path("b")]), to_list(())) == (
        ["m.C"],
        ["a"],
        ["a", "b"],
        [],
    )


@pytest.mark.parametrize(
    "ask, text",
    [
        (lambda: api.train(EXAMPLE, overrides=["a=1"]), "a mapping of dotted keys"),
        (lambda: api.train(EXAMPLE, overrides={"a=b": 1}), "'a=b' is not a dotted key"),
        (lambda: api.train(EXAMPLE, overrides={1: 1}), "1 is not a dotted key"),
        (lambda: api.train(EXAMPLE, overrides={"a": {1}}), "overrides: a: a value of type set can't be in a run file"),
        (
            lambda: api.train([EXAMPLE]),  # type: ignore[arg-type]
            "name each by itself",
        ),
        (lambda: api.train(EXAMPLE, resume=""), "--resume: "),
        (lambda: api.train(EXAMPLE, name=""), "--name: "),
        (lambda: api.validate(EXAMPLE, task="fit"), "allowed: train, tune"),
        (lambda: api.load_run("x", context="kind"), "give its namespace too"),
        (lambda: api.load_run("x", "runs", namespace="team"), "leave out storage or namespace"),
    ],
)
def test_what_is_no_argument_is_said(storage: Store, ask: Any, text: str) -> None:
    with pytest.raises(InputError, match=text):
        ask()


@pytest.mark.parametrize(
    "code, text", [("print('error: disk full'); sys.exit(1)", "^disk full"), ("os.kill(os.getpid(), 9)", "signal 9")]
)
def test_a_command_that_records_nothing(storage: Store, monkeypatch: pytest.MonkeyPatch, code: str, text: str) -> None:
    monkeypatch.setattr(starting, "COMMAND", (sys.executable, "-c", f"import os, sys; {code}"))
    with pytest.raises(RunFailedError, match=text):
        api.train(EXAMPLE, name=Path("x"), show=None)


def test_an_error_of_show_ends_the_run(storage: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starting, "COMMAND", (sys.executable, "-c", CHILD))
    lines: list[str] = []

    def show(line: str) -> None:
        lines.append(line)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        api.train(EXAMPLE, name="x", show=show)
    assert lines == ["epoch 1/9", "interrupted; resume with: ..."]


def test_a_run_of_a_cluster_that_nobody_will_end(storage: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    class Kube:
        rayjob: dict[str, Any] | None = None

        def get(self, kind: str, name: str) -> dict[str, Any]:
            if self.rayjob is None:
                raise NotFoundError("no such RayJob")
            return self.rayjob

    train_run(storage, "x")
    kube: Any = Kube()
    run = api.Run("runs", "x", ClusterSide(kube))
    monkeypatch.setattr(api.Run, "state", "running")
    with pytest.raises(RunFailedError, match="its objects are gone from the cluster"):
        run.wait()
    kube.rayjob = {"metadata": {"name": "x"}, "spec": {}, "status": {"jobDeploymentStatus": "Failed"}}
    with pytest.raises(RunFailedError, match="run x has not ended, and run x: Failed"):
        run.wait()
    kube.rayjob["status"]["jobDeploymentStatus"] = "Running"
    with pytest.raises(TimeoutError):
        run.wait(-1)


def test_load_takes_a_class(storage: Store) -> None:
    best = api.Run("runs", train_run(storage).name).best
    assert best is not None
    with pytest.raises(InputError, match="the class of a LightningModule"):
        best.load(Net())
