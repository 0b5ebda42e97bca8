"""A driver that only emits events, for the command line's tests. As a script it is `trainer` with that driver.

python fake_driver.py SCENARIO tune run.yaml ...
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import termios
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

Emit = Callable[[dict[str, Any]], None]
REASON = "asha: val_accuracy 0.61 is below the cut at epoch 1"
CHECKPOINT = "runs/mnist-1/trials/t00002/checkpoints/e0004"


def params(i: int) -> dict[str, Any]:
    return {"model.init_args.lr": 0.001 * (i + 1), "data.init_args.batch_size": 32}


def begin(trials: int, **more: Any) -> dict[str, Any]:
    event = {"event": "run", "run": "mnist-1", "task": "tune", "uri": "runs", "log": "/l/mnist-1.log", "attempt": 1}
    return {**event, "notes": ["a note"], "epochs": 5, "metric": "val_accuracy", "num_samples": trials, **more}


def trial(i: int, epochs: int, value: float, reason: str) -> Iterator[dict[str, Any]]:
    about = {"event": "trial", "trial": f"t{i:05d}", "params": params(i)}
    yield {**about, "state": "running", "epochs": 0, "metric": None, "elapsed": 0.0, "reason": ""}
    for epoch in range(epochs):
        metrics = {"val_accuracy": value, "train_loss": float("nan")}
        yield {
            "event": "epoch",
            "trial": f"t{i:05d}",
            "epoch": epoch,
            "step": 45 * (epoch + 1),
            "metrics": metrics,
            "elapsed": epoch + 1.0,
        }
    state = "finished" if epochs == 5 else "stopped"
    yield {**about, "state": state, "epochs": epochs, "metric": value, "elapsed": float(epochs), "reason": reason}


def sweep(trials: int = 3) -> list[dict[str, Any]]:
    """All but the last trial are stopped after an epoch; the last one is the best."""
    last = trials - 1
    events = [begin(trials)]
    for i in range(last):
        events += trial(i, 1, 0.5 + i / 10_000, REASON)
    events += trial(last, 5, 0.975, "max_t: 5 epochs")
    best = {"trial": f"t{last:05d}", "metric": "val_accuracy", "value": 0.975, "epoch": 4, "params": params(last)}
    events.append({"event": "test", "checkpoint": CHECKPOINT, "metrics": {"test_accuracy": 0.9667}})
    end = {"event": "end", "run": "mnist-1", "state": "succeeded", "seconds": 34.2, "error": None, "uri": "runs"}
    return [*events, {**end, "best": {**best, "checkpoint": CHECKPOINT}}]


def training(epochs: int = 3) -> list[dict[str, Any]]:
    events = [{**begin(0), "task": "train", "num_samples": None, "epochs": epochs}]
    for epoch in range(epochs):
        metrics = {"train_loss": 1 / (epoch + 1), "train_loss_step": 9.9, "val_accuracy": 0.9 + epoch / 100}
        step = 45 * (epoch + 1)
        events.append(
            {"event": "epoch", "trial": None, "epoch": epoch, "step": step, "metrics": metrics, "elapsed": 1.0 + epoch}
        )
        events.append({"event": "checkpoint", "trial": None, "epoch": epoch, "step": step, "uri": f"runs/c{epoch}"})
    end = {"event": "end", "run": "mnist-1", "state": "succeeded", "seconds": 3.0, "best": None, "error": None}
    return [*events, {**end, "uri": "runs"}]


def quick(emit: Emit) -> int:
    for event in sweep():
        emit(event)
    return 0


def noisy(emit: Emit) -> int:
    print("noise of print")
    sys.stderr.write("noise of stderr\n")
    os.write(1, b"noise of fd 1\n")
    subprocess.run(["sh", "-c", "echo noise of a child; echo noise of its stderr >&2"], check=True)
    warnings.warn("noise of a warning", stacklevel=1)
    return quick(emit)


def broken(emit: Emit) -> int:
    emit(begin(3, log=None))
    raise RuntimeError("boom\nin two lines")


def waiting(emit: Emit) -> int:
    """Runs until it is interrupted, as Ray's drivers do: with handlers of its own that would swallow the signal."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda *_: None)
    for event in sweep()[:-2]:
        emit(event)
    emit({"event": "trial", "trial": "t00009", "state": "running", "params": params(9)})
    time.sleep(60)
    return 0


def stubborn(emit: Emit) -> int:
    """A clean end that takes longer than a person's patience."""
    try:
        return waiting(emit)
    finally:
        time.sleep(60)


def counting(emit: Emit) -> int:
    """More events than a pipe holds, then a file: the reader of its output may be gone by then."""
    emit(begin(1000))
    for event in [e for i in range(300) for e in trial(i, 1, 0.5, REASON)]:
        emit(event)
    Path(os.environ["FAKE_DRIVER_DONE"]).touch()
    return quick(emit)


def install(scenario: Callable[[Emit], int], calls: list[dict[str, Any]] | None = None) -> dict[str, ModuleType]:
    """A module `trainer_app.driver` whose `run` is the scenario, for sys.modules."""

    def run(task: str, config: Any, *, emit: Emit, **given: Any) -> int:
        if calls is not None:
            calls.append({"task": task, "config": config, **given})
        return scenario(emit)

    module = ModuleType("trainer_app.driver")
    module.run = run  # type: ignore[attr-defined]
    return {module.__name__: module}


if __name__ == "__main__":
    from trainer_app.__main__ import main

    if os.environ.get("FAKE_DRIVER_TERMINAL"):
        # The terminal on stdin becomes this session's: its Ctrl-C is for this process group.
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    sys.modules.update(install(globals()[sys.argv[1]]))
    sys.exit(main(sys.argv[2:]))
