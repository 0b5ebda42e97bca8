"""`trainer validate` and `trainer schema` as processes: exit codes, streams, and what they don't import."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.unit.broken_run_files import BROKEN, MODEL
from tests.unit.tree import ROOT
from trainer_app.cli.validate import report

pytestmark = pytest.mark.unit
HEAVY = ("torch", "ray", "lightning", "numpy", "jsonargparse", "boto3", "kubernetes", "rich")


def trainer(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "trainer_app", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT)


def test_a_right_file(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(MODEL + "trainer: {devices: 2}\n")
    done = trainer("validate", str(file), "trainer.max_epochs=3")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"{file}: ok, but its code was not checked (--deep does that)",
        "  model: my.Net",
        "  train: 3 epochs, 2 workers, one GPU each if there are GPUs",
        "  storage: runs",
        f"  note: {file}:2: trainer.devices: 2 becomes scaling.num_workers: 2",
    ]


@pytest.mark.parametrize(
    ("number", "use_gpu", "text"),
    [
        (1, "auto", "1 worker, with a GPU if there is one"),
        (1, "true", "1 worker with a GPU"),
        (2, "true", "2 workers with a GPU each"),
        (2, "false", "2 workers on CPU"),
    ],
)
def test_workers_in_words(number: int, use_gpu: str, text: str, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(f"{MODEL}scaling: {{num_workers: {number}, use_gpu: {use_gpu}}}\ntrainer: {{max_epochs: 1}}\n")
    assert report([str(file)])[2] == f"  train: 1 epoch, {text}"


def test_a_grid_is_counted_in_trials(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    space = "space: {model.init_args.lr: {grid_search: [1, 2]}}"
    file.write_text(f"{MODEL}tune: {{metric: m, mode: min, num_samples: 3, {space}}}\n")
    assert "  tune: 6 trials of 1 parameter, min m, fifo, random" in report([str(file)])


@pytest.mark.parametrize(
    "name", ["yaml: tab", "blocks: unknown block", "ours: storage password", "rules: optuna randn"]
)
def test_a_broken_file(name: str, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(BROKEN[name].yaml)
    done = trainer("validate", str(file))
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert f"{file}:" in line and f"{BROKEN[name].key}: " in line and BROKEN[name].says in line
    assert "CANARY" not in line


def test_files_that_are_none(tmp_path: Path) -> None:
    done = trainer("validate", str(tmp_path / "nope.yaml"), str(tmp_path))
    assert done.returncode == 2
    assert [line.partition(": ")[2].partition(";")[0] for line in done.stderr.splitlines()] == [
        f"{tmp_path}/nope.yaml: no such file",
        f"{tmp_path}: is a directory",
    ]
    assert trainer("validate").returncode == 2


def test_schema() -> None:
    done = trainer("schema")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["$schema"].endswith("2020-12/schema")


def test_light_and_quick(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(MODEL)
    code = f"""
import sys
from trainer_app.__main__ import main
assert main(["validate", {str(file)!r}]) == 0
print(sorted(name for name in {HEAVY!r} if name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]", done
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        assert trainer("validate", str(file)).returncode == 0
        times.append(time.perf_counter() - begin)
    # Measured 0.29 s on 2 cores; other work on the machine may slow one down.
    assert min(times) < 1.0, times


def test_deep_names_the_argument() -> None:
    example = ROOT / "trainer_app" / "examples" / "mnist" / "train.yaml"
    code = f"""
from trainer_app.__main__ import main
assert main(["validate", "--deep", {str(example)!r}]) == 0
assert main(["validate", "--deep", {str(example)!r}, "model.init_args.layer=3"]) == 2
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=240)
    assert done.returncode == 0, done
    assert done.stdout.splitlines()[0] == f"{example}: ok, and so is the code that it names"
    assert "model.init_args.layer" in done.stderr.splitlines()[-1]
