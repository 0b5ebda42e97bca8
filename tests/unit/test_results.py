"""Runs as people and machines read them, from storage alone."""

from __future__ import annotations

import io
import json
import math
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.plain_process import trainer
from tests.run_samples import commit, epoch, train_run, tune_run
from trainer_app.__main__ import main
from trainer_app.cli.live import closing_tables
from trainer_app.errors import NotFoundError, StorageError
from trainer_app.records import RunFolder, RunRecord, TrialRecord
from trainer_app.results import list_runs, load_run, newest_run, resolve_run
from trainer_app.results.view import RunView, trial_rows
from trainer_app.storage import Store, open_store

pytestmark = pytest.mark.unit


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What a command prints on stdout."""

    def show(*arguments: str) -> str:
        code = main(arguments)
        out, err = capsys.readouterr()
        assert code == 0, err
        assert err == ""
        return out

    return show


def names(uri: str) -> list[str]:
    return [run.name for run in list_runs(uri)]


def test_a_train_run(storage: Store) -> None:
    folder = train_run(storage)
    run = load_run(storage.uri, "fashion-1")
    assert run.uri == folder.uri and run.record == folder.record and run.trials == [] and run.problems == []
    assert run.best and (run.best.trial, run.best.epoch, run.best.value) == (None, 1, 0.9)
    assert run.checkpoint and (run.checkpoint.epochs, run.checkpoint.step, run.checkpoint.size) == (2, 20, 10)
    assert open_store(run.checkpoint.uri).exists("checkpoint.ckpt")
    assert run.checkpoint.metrics["val/acc"] == 0.9
    assert run.done == 3
    assert [line["metrics"]["val/acc"] for line in run.fits[0].history] == [0.5, 0.9, 0.7]


def test_a_sweep(storage: Store) -> None:
    tune_run(storage)
    run = load_run(storage.uri, "mnist-1")
    assert [fit_folder.trial for fit_folder in run.trials] == ["t00000", "t00001", "t00002", "t00003"]
    assert run.done == 3
    assert run.best and (run.best.trial, run.best.epoch, run.best.value) == ("t00001", 1, 0.95)
    assert run.best.params["model.init_args.layer_1"] == 32
    # that epoch's checkpoint was not kept: the best committed one is another
    assert run.checkpoint and (run.checkpoint.trial, run.checkpoint.epochs) == ("t00001", 3)
    assert "/mnist-1/trials/t00001/checkpoints/a0001-e000003-" in run.checkpoint.uri
    failed = run.trials[2]
    assert failed.best is None and math.isnan(failed.history[-1]["metrics"]["val/acc"])


@pytest.mark.parametrize(("mode", "epoch_", "value"), [("max", 3, 0.9), ("min", 1, 0.2)])
def test_best_by_mode_leaves_nan_out(storage: Store, mode: str, epoch_: int, value: float) -> None:
    folder = RunFolder.create(storage, RunRecord(name="a", task="train", metric="m/x", mode=mode), "")
    for number, found in enumerate((math.nan, 0.2, 0.5, 0.9, 0.9, math.nan)):
        epoch(folder.fit_folder(), number, {"m/x": found})
        commit(folder.fit_folder(), number + 1, {"m/x": found})
    epoch(folder.fit_folder(), 6, {"other": 100.0})
    run = load_run(storage.uri, "a")
    assert run.best and (run.best.epoch, run.best.value) == (epoch_, value)
    assert run.checkpoint and run.checkpoint.epochs == epoch_ + 1


def test_without_a_metric_the_newest_checkpoint_counts(storage: Store) -> None:
    train_run(storage, metric=None, mode=None)
    run = load_run(storage.uri, "fashion-1")
    assert run.best is None and run.checkpoint and run.checkpoint.epochs == 3


def test_all_nan(storage: Store) -> None:
    folder = RunFolder.create(storage, RunRecord(name="a", task="train", metric="m", mode="min"), "")
    epoch(folder.fit_folder(), 0, {"m": math.nan})
    commit(folder.fit_folder(), 1, {"m": math.nan})
    run = load_run(storage.uri, "a")
    assert run.best is None and run.checkpoint and run.checkpoint.epochs == 1


def test_a_run_without_anything(storage: Store, shown: Callable[..., str]) -> None:
    RunFolder.create(storage, RunRecord(name="a", task="train"), "")
    run = load_run(storage.uri, "a")
    assert (run.best, run.checkpoint, run.done, run.fits) == (None, None, 0, [])
    assert "none is committed yet" in shown("results", "a")
    assert json.loads(shown("results", "a", "--json"))["history"] == []


def test_a_checkpoint_counts_with_its_manifest_and_objects(storage: Store) -> None:
    fit_folder = train_run(storage).fit_folder()
    fit_folder.checkpoints.delete("a0001-e000002-s000000020/manifest.json")
    assert load_run(storage.uri, "fashion-1").checkpoint.epochs == 3  # type: ignore[union-attr]
    fit_folder.checkpoints.put("a0001-e000003-s000000030/checkpoint.ckpt", b"short")
    run = load_run(storage.uri, "fashion-1")
    assert run.checkpoint and run.checkpoint.epochs == 1
    assert len(run.problems) == 1 and "has 5 bytes, its manifest says 10" in run.problems[0]
    fit_folder.checkpoints.delete("a0001-e000001-s000000010/checkpoint.ckpt")
    run = load_run(storage.uri, "fashion-1")
    assert run.checkpoint is None and "is missing, its manifest says 10" in " ".join(run.problems)


def test_a_tampered_manifest_is_a_problem_and_never_the_best(storage: Store) -> None:
    """One reader for `results`, resume and `test`: a metric changed by hand, and a commit copied to another name."""
    store = train_run(storage).fit_folder().checkpoints
    worst = "a0001-e000001-s000000010/manifest.json"
    store.put(worst, store.get(worst).replace(b"0.5", b"0.99"))
    copied = "a0001-e000009-s000000090"
    for name in ("manifest.json", "checkpoint.ckpt"):
        store.put(f"{copied}/{name}", store.get(f"a0001-e000002-s000000020/{name}"))
    run = load_run(storage.uri, "fashion-1")
    assert run.checkpoint and run.checkpoint.name == "a0001-e000002-s000000020"
    assert [checkpoint.epochs for checkpoint in run.fits[0].checkpoints] == [2, 3]
    assert [problem.partition(" is damaged")[0] for problem in run.problems] == [
        f"checkpoints/{worst}",
        f"checkpoints/{copied}/manifest.json",
    ]


def test_later_attempts_replace_epochs(storage: Store) -> None:
    folder = train_run(storage)
    epoch(folder.fit_folder(), 1, {"val/acc": 0.6}, attempt=2)
    run = load_run(storage.uri, "fashion-1")
    assert run.best and (run.best.epoch, run.best.value) == (2, 0.7)


def test_damage_is_named_and_the_rest_is_shown(storage: Store, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tune_run(storage)
    folder.run_store.put("trials/t00000/trial.json", b"{")
    folder.run_store.put("trials/t00001/metrics/a0001-0000.jsonl", b"garbage")
    folder.run_store.put("trials/t00001/checkpoints/a0001-e000001-s000000010/manifest.json", b'{"epoch": 1}')
    folder.run_store.put("trials/t00002/notes.txt", b"not ours")
    run = load_run(storage.uri, "mnist-1")
    assert len(run.problems) == 3 and all("\n" not in problem for problem in run.problems)
    for key in ("t00000/trial.json is damaged", "a0001-0000.jsonl, line 1, is damaged", "manifest.json is damaged"):
        assert any(key in problem for problem in run.problems)
    assert [fit_folder.trial for fit_folder in run.trials] == ["t00000", "t00001", "t00002", "t00003"]
    assert run.best and run.best.trial == "t00000"
    assert main(["results", "mnist-1"]) == 0
    assert capsys.readouterr().err.count("warning: trials/t0000") == 2  # of manifests only those of the best are read
    assert main(["results", "mnist-1", "--trial", "t00001"]) == 0
    assert capsys.readouterr().err.count("warning: trials/t0000") == 3


def test_a_damaged_run_json(storage: Store, capsys: pytest.CaptureFixture[str]) -> None:
    folder = train_run(storage)
    folder.run_store.put("run.json", b'{"name": ')
    with pytest.raises(StorageError, match=r"run\.json is damaged: "):
        load_run(storage.uri, "fashion-1")
    assert main(["results", "fashion-1"]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and "damaged" in err
    assert main(["list"]) == 0
    out, err = capsys.readouterr()
    assert "damaged" in out and "fashion-1/run.json is damaged" in err


def test_find(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRAINER_STORAGE_URI", raising=False)
    assert resolve_run("mnist-1") == ("runs", "mnist-1")
    assert resolve_run("mnist-1", "s3://b/x") == ("s3://b/x", "mnist-1")
    assert resolve_run(None) == ("runs", None)
    assert resolve_run("s3://b/x/mnist-1?region=r", "elsewhere") == ("s3://b/x?region=r", "mnist-1")
    assert resolve_run("./a/mnist-1/") == (str(tmp_path / "a"), "mnist-1")
    assert resolve_run(".") == (str(tmp_path.parent), tmp_path.name)
    monkeypatch.setenv("TRAINER_STORAGE_URI", "s3://b/y")
    assert resolve_run("mnist-1") == ("s3://b/y", "mnist-1")
    assert resolve_run("mnist-1", "runs") == ("runs", "mnist-1")


def test_results_as_text(storage: Store, shown: Callable[..., str]) -> None:
    tune_run(storage, created=time.time() - 5)
    text = shown("results", "mnist-1")
    lines = text.splitlines()
    facts = {line.split()[0]: line.split(maxsplit=1)[1] for line in lines[: lines.index("")]}
    assert facts["run"] == "mnist-1: tune, 3/4 trials"
    assert facts["storage"] == f"{storage.uri}/mnist-1"
    assert facts["best"] == "t00001 val/acc=0.95 at epoch 2: lr=0.05 layer_1=32 size=8"
    assert facts["checkpoint"].startswith(f"{storage.uri}/mnist-1/trials/t00001/checkpoints/a0001-e000003-")
    assert facts["checkpoint"].endswith(" (t00001, epoch 3, val/acc=0.9)")
    table = [line.split(maxsplit=8) for line in lines[lines.index("") + 1 :]]
    assert table == [
        ["trial", "state", "epochs", "val/acc", "lr", "layer_1", "size", "elapsed", "reason"],
        ["t00000", "stopped", "1/3", "0.7", "0.1", "0", "8", "-", "ASHA at epoch 1"],
        ["t00001", "finished", "3/3", "0.95", "0.05", "32", "8", "-", "all epochs done"],
        ["t00002", "failed", "1/3", "-", "0.0333333", "64", "8", "-", "ValueError: lr | too high"],
        ["t00003", "pending", "0/3", "-", "0.025", "96", "8", "-", "-"],
    ]


def test_epochs_as_text(storage: Store, shown: Callable[..., str]) -> None:
    train_run(storage)
    tune_run(storage)
    text = shown("results", "fashion-1")
    header = next(line for line in text.splitlines() if line.lstrip().startswith("epoch  "))
    assert header.split() == ["epoch", "step", "val/acc", "train_loss", "elapsed"]
    assert [line.split()[:3] for line in text.splitlines() if "/5 " in line and "run" not in line] == [
        ["1/5", "10", "0.5"],
        ["2/5", "20", "0.9"],
        ["3/5", "30", "0.7"],
    ]
    assert text.count("/checkpoints/") == 4  # the best, then each
    text = shown("results", "mnist-1", "--trial", "t00001")
    assert "t00000" not in text and "2/3" in text and text.count("/checkpoints/") == 3
    head = text.split("\n\n")[0].splitlines()
    assert [line.split(maxsplit=1) for line in head[4:8]] == [
        ["trial", "t00001: finished, 3/3 epochs"],
        ["reason", "all epochs done"],
        ["parameters", "lr=0.05 layer_1=32 size=8"],
        ["best", "val/acc=0.95 at epoch 2"],
    ]
    assert head[8].startswith("checkpoint  ") and head[8].endswith(" (epoch 3, val/acc=0.9)")
    assert "best        no value yet\n" in shown("results", "mnist-1", "--trial", "t00002")


@pytest.mark.parametrize("state", ["interrupted", "failed", "running"])
def test_a_trial_that_ran_when_the_run_ended_was_interrupted(
    storage: Store, shown: Callable[..., str], state: str
) -> None:
    folder = tune_run(storage, state=state)
    folder.write_trial(TrialRecord(trial="t00004", index=4, state="running"))
    epoch(folder.fit_folder("t00005"), 0, {"val/acc": 0.5})  # its record was not written
    wanted = "running" if state == "running" else "interrupted"
    rows = {line.split()[0]: line.split()[1] for line in shown("results", "mnist-1").splitlines() if line[:2] == "t0"}
    assert (rows["t00004"], rows["t00005"], rows["t00003"]) == (wanted, wanted, "pending")
    trials = json.loads(shown("results", "mnist-1", "--json"))["trials"]
    assert {t["trial"]: t["state"] for t in trials}["t00004"] == wanted


def test_a_failed_trial_shows_its_traceback(storage: Store, shown: Callable[..., str]) -> None:
    folder = tune_run(storage)
    said = 'Traceback (most recent call last):\n  File "model.py", line 3, in f\n\x1b[31mValueError: no\x1b[0m\n'
    folder.write_trial(TrialRecord(trial="t00002", index=2, state="failed", error="ValueError: no", traceback=said))
    text = shown("results", "mnist-1", "--trial", "t00002")
    assert '  File "model.py", line 3, in f\n' in text and "ValueError: no" in text and "\x1b" not in text
    assert "model.py" not in shown("results", "mnist-1") + shown("results", "mnist-1", "--trial", "t00001")
    (trial,) = json.loads(shown("results", "mnist-1", "--json", "--trial", "t00002"))["trials"]
    assert trial["traceback"] == said


def test_an_unknown_trial_or_run(storage: Store, capsys: pytest.CaptureFixture[str]) -> None:
    tune_run(storage)
    with pytest.raises(NotFoundError):
        load_run(storage.uri, "mnist")
    for arguments, said in (
        (["results", "mnist-1", "--trial", "t00009"], "no trial 't00009'; did you mean 't00003'"),
        (["results", "mnist"], "no run 'mnist' in"),
        (["results", "mnist", "--json"], "did you mean 'mnist-1'?"),
        (["results", "--storage", "nowhere"], "there are no runs in"),
    ):
        assert main(arguments) == 2
        out, err = capsys.readouterr()
        assert out == "" and said in err and err.count("\n") == 1, err


def test_results_as_json(storage: Store, shown: Callable[..., str]) -> None:
    tune_run(storage)
    train_run(storage)
    sweep = json.loads(shown("results", "mnist-1", "--json"), parse_constant=pytest.fail)
    assert sweep["format"] == 1 and sweep["task"] == "tune" and sweep["done"] == 3
    assert sweep["best"]["value"] == 0.95 and sweep["checkpoint"]["trial"] == "t00001"
    assert [trial["state"] for trial in sweep["trials"]] == ["stopped", "finished", "failed", "pending"]
    assert sweep["trials"][2]["history"][0]["metrics"] == {"val/acc": "nan"}
    assert sweep["trials"][1]["best"]["epoch"] == 1
    one = json.loads(shown("results", "mnist-1", "--json", "--trial", "t00002"))
    assert [trial["trial"] for trial in one["trials"]] == ["t00002"]
    alone = json.loads(shown("results", "fashion-1", "--json"))
    assert [line["epoch"] for line in alone["history"]] == [0, 1, 2] and len(alone["checkpoints"]) == 3
    assert set(RunRecord.model_fields) - {"best"} <= set(alone)
    assert set(TrialRecord.model_fields) <= set(sweep["trials"][0])


def test_the_newest_run_is_shown_without_a_name(storage: Store, shown: Callable[..., str]) -> None:
    train_run(storage, created=100.0)
    tune_run(storage, created=200.0)
    assert newest_run(storage.uri) == "mnist-1"
    assert shown("results").startswith("run         mnist-1: tune")
    assert json.loads(shown("results", "--json"))["name"] == "mnist-1"
    assert shown("results", str(Path("runs", "fashion-1"))).startswith("run         fashion-1: train")


def test_list(storage: Store, shown: Callable[..., str]) -> None:
    train_run(storage, "b-1", created=100.0, state="succeeded", done=3, best=0.9)
    tune_run(storage, "a-1", created=200.0, state="failed", error="boom")  # killed before it wrote how far it was
    train_run(storage, "c-1", created=300.0, state="interrupted", done=3, best=0.25)  # is believed
    storage.put("no-run/file", b"")
    rows = [line.split() for line in shown("list").splitlines()]
    assert rows[0] == ["run", "task", "state", "created", "done", "best"]
    assert [(row[0], row[1], row[2], *row[5:]) for row in rows[1:]] == [
        ("c-1", "train", "interrupted", "3/5", "epochs", "val/acc=0.25"),
        ("a-1", "tune", "failed", "-/4", "trials", "-"),
        ("b-1", "train", "succeeded", "3/5", "epochs", "val/acc=0.9"),
    ]
    listed = json.loads(shown("list", storage.uri, "--json"))
    assert listed["format"] == 1 and listed["uri"] == storage.uri
    assert [(run["name"], run["done"], run["best_value"]) for run in listed["runs"]] == [
        ("c-1", 3, 0.25),
        ("a-1", None, None),
        ("b-1", 3, 0.9),
    ]


def test_list_takes_its_storage_as_the_other_verbs_do(
    storage: Store, shown: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    train_run(open_store("elsewhere"), "b-1")
    assert shown("list", "--storage", "elsewhere") == shown("list", "elsewhere") != shown("list")
    assert "b-1" in shown("list", "elsewhere", "--storage", "elsewhere")
    assert main(["list", "elsewhere", "--storage", "runs"]) == 2
    assert "two storages, elsewhere and --storage runs" in capsys.readouterr().err


PLACES = [
    # options; variables; the namespace of the cluster that is read, or None if it is a storage
    ((), {}, None),
    (("-n", "team"), {}, "team"),
    (("--context", "c"), {}, ""),
    ((), {"TRAINER_NAMESPACE": "team"}, "team"),
    (("--storage", "runs"), {"TRAINER_NAMESPACE": "team"}, None),
    ((), {"TRAINER_NAMESPACE": "team", "TRAINER_STORAGE_URI": "runs"}, None),
    (("-n", "team"), {"TRAINER_NAMESPACE": "other", "TRAINER_STORAGE_URI": "elsewhere"}, "team"),
    (("--context", "c"), {"TRAINER_NAMESPACE": "team", "TRAINER_STORAGE_URI": "elsewhere"}, "team"),
]


@pytest.mark.parametrize("verb", ["results", "list"])
@pytest.mark.parametrize("arguments, variables, namespace", PLACES)
def test_a_namespace_or_a_storage_is_read(
    verb: str,
    arguments: tuple[str, ...],
    variables: dict[str, str],
    namespace: str | None,
    storage: Store,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """-n and --context ask for the cluster; a storage that is named counts before TRAINER_NAMESPACE."""

    def connect(namespace: str | None, context: str | None) -> None:
        raise NotFoundError(f"on the cluster: {namespace}")

    monkeypatch.setattr("trainer_app.launch.kube.connect", connect)
    monkeypatch.delenv("TRAINER_NAMESPACE", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    train_run(storage)
    code = main([verb, *arguments])
    out, err = capsys.readouterr()
    if namespace is None:
        assert code == 0 and "fashion-1" in out, err
    else:
        assert code == 2 and err.startswith(f"error: on the cluster: {namespace or None}"), out


def test_a_path_of_a_run_is_read_from_storage_in_spite_of_the_namespace(
    storage: Store, shown: Callable[..., str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train_run(storage)
    monkeypatch.setenv("TRAINER_NAMESPACE", "team")
    assert shown("results", "runs/fashion-1").startswith("run         fashion-1")
    assert "fashion-1" in shown("list", "runs")
    for arguments in (["results", "runs/fashion-1"], ["results", "--storage", "runs"], ["list", "runs"]):
        assert main([*arguments, "-n", "team"]) == 2
        assert "or a namespace (-n), not both" in capsys.readouterr().err


def test_list_of_nothing(storage: Store, shown: Callable[..., str]) -> None:
    assert shown("list") == f"no runs in {storage.uri}; start one with trainer train or trainer tune\n"
    assert json.loads(shown("list", "--json"))["runs"] == []


def test_a_run_that_went_quiet(storage: Store, shown: Callable[..., str]) -> None:
    now = time.time()
    for name, written in (("quiet", now - 7260), ("alive", now - 30)):
        folder = RunFolder.create(storage, RunRecord(name=name, task="train", updated=written, created=now - 9000), "")
        epoch(folder.fit_folder(), 0, {"a": 1.0}, at=written)
    listed = {line.split()[0]: line for line in shown("list").splitlines()}
    assert "running? (nothing new for 2h01m)" in listed["quiet"]
    assert "running " in listed["alive"] and "?" not in listed["alive"]
    assert "running? (nothing new for 2h01m)" in shown("results", "quiet")
    RunFolder.open(storage, "quiet").update(state="succeeded")
    assert "?" not in shown("results", "quiet")


def test_nothing_in_a_record_moves_the_cursor(storage: Store, shown: Callable[..., str]) -> None:
    folder = tune_run(storage, error="\x1b[2Jboom\nsecond line")
    folder.write_trial(TrialRecord(trial="t00000", index=0, params={"a": "\x1b[31m\r"}, reason="x\x1b[0m"))
    for text in (shown("results", "mnist-1"), shown("list")):
        assert "\x1b" not in text and "\r" not in text


def on_terminal(cwd: Path, columns: int, *arguments: str, encoding: str = "utf-8") -> str:
    """What the command writes to a terminal of that width."""
    master, slave = pty.openpty()
    code = "import sys; from trainer_app.__main__ import main; sys.exit(main(sys.argv[1:]))"
    env = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm-256color", "PYTHONPATH": os.pathsep.join(sys.path)}
    env["PYTHONIOENCODING"] = encoding
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=slave, stderr=slave, cwd=cwd, env=env)
    os.close(slave)
    text = b""
    while select.select([master], [], [], 60)[0]:
        try:
            piece = os.read(master, 65536)
        except OSError:  # Linux: the other end is closed
            break
        if not piece:
            break
        text += piece
    os.close(master)
    assert process.wait(60) == 0, text
    return text.decode()


def test_on_a_terminal(storage: Store, tmp_path: Path) -> None:
    tune_run(storage)
    folder = train_run(storage)
    epoch(folder.fit_folder(), 3, {f"metric_number_{n}": 1.0 for n in range(20)})
    text = on_terminal(tmp_path, 150, "results", "mnist-1")
    assert "\x1b[" in text and "ASHA at epoch 1" in text and "▄█▇" in text  # the curve of the best trial
    checkpoint = next(line for line in text.splitlines() if line.startswith("checkpoint"))
    assert checkpoint.rstrip().endswith("(t00001, epoch 3, val/acc=0.9)")  # not wrapped, to be copied
    text = on_terminal(tmp_path, 80, "results", "fashion-1")
    assert "no room for metric_number_" in text and "use --json" in text
    assert "\x1b[" in on_terminal(tmp_path, 80, "list")


@pytest.mark.parametrize("columns", [150, 60])
def test_a_sweep_leaves_the_table_that_results_shows(storage: Store, tmp_path: Path, columns: int) -> None:
    folder = tune_run(storage)
    folder.write_trial(TrialRecord(trial="t00004", index=4, state="failed", error="boom", started=10.0, ended=75.0))
    view = RunView(task="tune", run="mnist-1", mode="max")
    view.apply({"event": "run", "run": "mnist-1", "metric": "val/acc", "epochs": 3})
    for row in trial_rows(load_run(storage.uri, "mnist-1")):
        view.apply({"event": "trial", "metric": row.value, **vars(row)})
    out = io.StringIO()
    Console(file=out, width=columns, color_system=None).print(*closing_tables(view, columns), sep="\n")
    closing = [line.rstrip() for line in out.getvalue().splitlines() if line.strip()]
    text = re.sub(
        r"\x1b\[[\d;]*m", "", on_terminal(tmp_path, columns, "results", "mnist-1", encoding="ascii")
    )  # no curves
    assert [line for line in closing if line not in (shown.rstrip() for shown in text.splitlines())] == []
    assert len(closing) >= 6 and ("1m05s" in out.getvalue()) == (columns > 100)  # elapsed: if there is room


@pytest.mark.parametrize("arguments", [("results", "mnist-1"), ("results", "--json"), ("list",), ("list", "--json")])
def test_without_ray_torch_and_pickle(storage: Store, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    tune_run(storage)
    storage.put("mnist-1/tuner.pkl", b"cos\nsystem\n(S'echo bad'\ntR.")
    done = trainer(*arguments, cwd=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert "mnist-1" in done.stdout


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import torch", "torch is not installed here"),
        ("import numpy", "numpy is not installed here"),
        ("import pickle; pickle.loads(b'N.')", "something was unpickled"),
        ("import _pickle; _pickle.loads(b'cos\\ngetcwd\\n.')", "something was unpickled"),
        ("open('x/checkpoint.ckpt')", "checkpoint.ckpt was opened"),
    ],
)
def test_such_a_process_notices(code: str, said: str) -> None:
    done = trainer(code=code)
    assert done.returncode != 0 and said in done.stderr


def test_every_field_of_the_documents_is_documented(storage: Store, shown: Callable[..., str]) -> None:
    from trainer_app.results import list_document, run_document

    tune_run(storage)

    def undocumented(found: dict[str, Any], text: str | None) -> list[str]:
        return [name for name in found if name not in (text or "")]

    assert undocumented(json.loads(shown("results", "--json")), run_document.__doc__) == []
    assert undocumented(json.loads(shown("list", "--json"))["runs"][0], list_document.__doc__) == []
