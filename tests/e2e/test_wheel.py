"""The wheel in an environment of its own, without torch and Ray, away from the checkout: every launcher verb."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.kind import NAMESPACE, ROOT, Cluster, Done
from tests.e2e.runs import ONE_POD

pytestmark = pytest.mark.timeout(900)
Name = Callable[[str], str]
UV = Path(sys.executable).with_name("uv")


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> str:
    """`trainer` of the plain install."""
    folder = tmp_path_factory.mktemp("plain")

    def run(*words: str) -> None:
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stdout + done.stderr

    python = str(folder / "env" / "bin" / "python")
    lock = ("-r", "pyproject.toml", "-c", "image/requirements.txt")
    install = (str(UV), "pip", "install", "--quiet", "--python", python, "--compile-bytecode")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT))
    run(str(UV), "venv", "--quiet", "--python", sys.executable, str(folder / "env"))
    run(*install, "--require-hashes", *lock)
    run(*install, "--no-deps", str(next(folder.glob("*.whl"))))
    for absent in ("torch", "ray"):
        assert subprocess.run([python, "-c", f"import {absent}"], capture_output=True).returncode
    return str(folder / "env" / "bin" / "trainer")


@pytest.mark.full
def test_every_launcher_verb(cluster: Cluster, command: str, name: Name, tmp_path: Path) -> None:
    shutil.copy(ROOT / "trainer_app/examples/mnist/train.yaml", tmp_path / "run.yaml")
    run, n = name("wheel"), ("-n", NAMESPACE)
    what = ("train", "run.yaml", "data.init_args.source=digits", "trainer.max_epochs=1", "-f", "kind", "--name", run,
            *ONE_POD)  # fmt: skip

    def trainer(*words: str, timeout: float = 60) -> Done:
        return cluster.trainer(*words, cwd=tmp_path, timeout=timeout, program=command)

    assert "kind: RayJob" in trainer("render", *what).ok().out
    assert trainer("submit", *what, "--dry-run").ok().out.count("kind: RayJob") == 1
    assert trainer("doctor", "-f", "kind", *n).ok().out.count("ok ") >= 6
    trainer("submit", *what, *n).ok()
    assert run in trainer("status", *n).out and run in trainer("list", *n).ok().out
    assert trainer("wait", run, *n, timeout=400).code == 0
    assert "epoch 1/1" in trainer("logs", run, *n).ok().out
    assert "succeeded" in trainer("results", run, *n).ok().out
    assert "nothing to stop" in trainer("stop", run, *n).ok().err
    assert "nothing to resume" in trainer("resume", run, *n).ok().err
    trainer("delete", run, *n, timeout=400).ok()
    assert "epoch 1/1" in trainer("logs", run, *n, "--values", "kind").ok().out  # its pods are gone
