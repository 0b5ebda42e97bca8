"""Trials that follow each other in one process don't see each other."""

from __future__ import annotations

import gc
import locale
import logging
import multiprocessing
import os
import random
import socket
import sys
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from ray import tune

from trainer_app.config import loads
from trainer_app.run.spec import RunSpec
from trainer_app.tune import sweep
from trainer_app.tune import trial as trials
from trainer_app.tune.process_state import restored_process
from trainer_app.user_errors import FitProgress

pytestmark = [pytest.mark.unit, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(autouse=True)
def _new_process() -> None:
    """A data loader with workers chooses the start method, and any earlier test may have had one."""
    multiprocessing.set_start_method(None, force=True)


def seen_handlers() -> list[logging.Handler]:
    return [h for h in [*logging.root.handlers, *logging.getLogger("mine").handlers] if type(h) is logging.FileHandler]


# what a trial does, and what the next one looks at
CHANGES: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "a variable": (lambda: os.environ.update(MINE="1"), lambda: dict(os.environ)),
    "the time zone": (lambda: os.environ.update(TZ="Asia/Tokyo"), lambda: os.environ.get("TZ")),
    "the working directory": (lambda: os.chdir("/"), os.getcwd),
    "the umask": (lambda: os.umask(0o077), lambda: (mask := os.umask(0o022), os.umask(mask))[0]),
    "the locale": (lambda: locale.setlocale(locale.LC_ALL, "C.UTF-8"), lambda: locale.setlocale(locale.LC_ALL)),
    "sys.path": (lambda: sys.path.insert(0, "/mine"), lambda: list(sys.path)),
    "sys.argv": (lambda: sys.argv.append("--mine"), lambda: list(sys.argv)),
    "stdout": (lambda: setattr(sys, "stdout", open(os.devnull, "w")), lambda: sys.stdout),  # noqa: SIM115
    "the hook of exceptions": (lambda: setattr(sys, "excepthook", print), lambda: sys.excepthook),
    "the recursion limit": (lambda: sys.setrecursionlimit(12345), sys.getrecursionlimit),
    "the sockets' time-out": (lambda: socket.setdefaulttimeout(3), socket.getdefaulttimeout),
    "the collector": (gc.disable, gc.isenabled),
    "the start method": (
        lambda: multiprocessing.set_start_method("spawn"),
        lambda: multiprocessing.get_start_method(allow_none=True),
    ),
    "the sharing strategy": (
        lambda: torch.multiprocessing.set_sharing_strategy("file_system"),
        torch.multiprocessing.get_sharing_strategy,
    ),
    "a logger's level": (lambda: logging.getLogger("ray").setLevel(1), lambda: logging.getLogger("ray").level),
    "logging": (lambda: logging.disable(logging.CRITICAL), lambda: logging.root.manager.disable),
    "a handler of the root": (lambda: logging.root.addHandler(logging.FileHandler(os.devnull)), seen_handlers),
    "a handler of a new logger": (
        lambda: logging.getLogger("mine").addHandler(logging.FileHandler(os.devnull)),
        seen_handlers,
    ),
    "the filters of warnings": (lambda: warnings.simplefilter("error"), lambda: list(warnings.filters)),
    "how warnings are shown": (lambda: setattr(warnings, "showwarning", print), lambda: warnings.showwarning),
    "Python's generator": (random.random, random.getstate),
    "NumPy's generator": (np.random.rand, lambda: str(np.random.get_state())),
    "torch's generator": (lambda: torch.rand(1), lambda: torch.get_rng_state().tolist()),
    "NumPy's errors": (lambda: np.seterr(all="raise"), np.geterr),
    "the default dtype": (lambda: torch.set_default_dtype(torch.float64), torch.get_default_dtype),
    "the default device": (lambda: torch.set_default_device("meta"), torch.get_default_device),
    "threads": (lambda: torch.set_num_threads(torch.get_num_threads() + 1), torch.get_num_threads),
    "the precision": (lambda: torch.set_float32_matmul_precision("medium"), torch.get_float32_matmul_precision),
    "determinism": (
        lambda: torch.use_deterministic_algorithms(mode=True, warn_only=True),
        lambda: (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        ),
    ),
    "cuDNN": (
        lambda: setattr(torch.backends.cudnn, "deterministic", True),
        lambda: torch.backends.cudnn.deterministic,
    ),
    "anomaly detection": (lambda: torch.autograd.set_detect_anomaly(mode=True), torch.is_anomaly_enabled),
    "gradients": (lambda: torch.set_grad_enabled(False), torch.is_grad_enabled),
}


@pytest.mark.parametrize("name", CHANGES)
def test_the_next_trial_finds_the_process_as_it_was(name: str) -> None:
    change, look = CHANGES[name]
    before = look()
    with restored_process():
        change()
        assert name in ("the locale", "the umask") or look() != before
    assert look() == before


def test_a_handlers_file_is_closed() -> None:
    handler = logging.FileHandler(os.devnull)
    stream = handler.stream
    with restored_process():
        logging.getLogger("mine").addHandler(handler)
    assert stream is not None and stream.closed


def test_a_run_of_wandb_ends_with_its_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    wandb: Any = types.ModuleType("wandb")
    wandb.run = None
    wandb.finish = lambda: setattr(wandb, "run", None)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    with restored_process():
        wandb.run = "of trial 0"
    assert wandb.run is None


@pytest.mark.parametrize("reused", [True, False])
def test_fresh_processes_can_be_asked_for(reused: bool) -> None:
    config = loads(RUN_FILE.replace("mode: min,", f"mode: min, reuse_processes: {str(reused).lower()},"))
    _, reuse = sweep.make_trainable(config, RunSpec(run="r", uri="runs", config="", use_gpu=False), None)
    assert reuse is reused


RUN_FILE = """
model: {class_path: m.M}
failure: {max_failures: 3}
tune: {metric: loss, mode: min, num_samples: 1, space: {model.init_args.lr: {choice: [1]}}}
"""


def test_a_start_method_is_set_by_every_attempt_of_every_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Case 11: the first trial of a process finished, the others failed: "context has already been set"."""
    attempts: list[str] = []
    reports: list[dict[str, Any]] = []

    def fit(_: Any, __: Any, ___: Any, progress: FitProgress) -> bool:
        progress.resumed = True
        multiprocessing.set_start_method("spawn")
        attempts.append("begun")
        if len(attempts) % 2:
            raise ValueError("passes")
        return False

    monkeypatch.setattr(trials, "fit_here", fit)
    monkeypatch.setattr(tune, "get_context", lambda: SimpleNamespace(get_trial_id=lambda: "t00000"))
    monkeypatch.setattr(tune, "report", reports.append)
    spec = RunSpec(run="r", uri=str(tmp_path), config=RUN_FILE, use_gpu=False)
    for _ in range(3):
        trials.run({}, spec)
    assert len(attempts) == 6 and not reports
