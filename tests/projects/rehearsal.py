"""Processes that have imported Lightning already: a command of `trainer` in one costs no 4 s of imports."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Mapping
from pathlib import Path

PRELOADED = [
    "lightning.pytorch.cli",
    "torchmetrics",
    "sklearn.datasets",
    "trainer_app.rehearsal",
    "trainer_app.cli.app",
]


def run(words: list[str], folder: Path, env: Mapping[str, str], seconds: float = 120) -> tuple[int | None, str]:
    """Run `trainer WORDS` in a process of its own.

    Args:
        words: the verb and its arguments.
        folder: the working directory.
        env: added to the environment.
        seconds: after which it is killed.

    Returns:
        (its exit code, what it printed).
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    output = folder / "output.txt"
    process = context.Process(target=_main, args=(words, folder, dict(env), output))
    process.start()
    process.join(seconds)
    if process.is_alive():
        process.kill()
        process.join()
    return process.exitcode, output.read_text() if output.exists() else ""


def _main(words: list[str], folder: Path, env: dict[str, str], output: Path) -> None:
    from trainer_app.__main__ import main

    with output.open("w") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    os.environ.update(env)
    os.chdir(folder)
    sys.exit(main(words))
