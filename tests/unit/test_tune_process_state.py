"""Trials that follow each other in one process don't see each other."""

from __future__ import annotations

import builtins
import gc
import locale
import logging
import multiprocessing
import os
import pickle
import random
import resource
import signal
import socket
import sys
import threading
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
from trainer_app.errors import StorageError
from trainer_app.lightning_cli.script import load_script
from trainer_app.run.spec import RunSpec
from trainer_app.tuning import process_settings, process_state, sweep
from trainer_app.tuning import trial as trials
from trainer_app.tuning.process_state import restored_process
from trainer_app.user_errors import FitProgress, plain_errors

pytestmark = [pytest.mark.unit, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(autouse=True)
def _new_process() -> None:
    """A data loader with workers chooses the start method, and any earlier test may have had one."""
    multiprocessing.set_start_method(None, force=True)
    process_state._unrestored.clear()


def seen_handlers() -> list[logging.Handler]:
    return [h for h in [*logging.root.handlers, *logging.getLogger("mine").handlers] if type(h) is logging.FileHandler]


def make_group() -> None:
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)


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
    "the precision by its new name": (
        lambda: setattr(torch.backends, "fp32_precision", "tf32"),
        lambda: (torch.backends.fp32_precision, torch.backends.cudnn.conv.fp32_precision),
    ),
    "TF32": (
        lambda: setattr(torch.backends.cudnn, "allow_tf32", False),
        lambda: (torch.backends.cudnn.allow_tf32, torch.backends.cudnn.rnn.fp32_precision),
    ),
    "the precision of oneDNN": (
        lambda: setattr(torch.backends.mkldnn.conv, "fp32_precision", "bf16"),
        lambda: torch.backends.mkldnn.conv.fp32_precision,
    ),
    "attention": (lambda: torch.backends.cuda.enable_flash_sdp(False), torch.backends.cuda.flash_sdp_enabled),
    "filling memory": (
        lambda: setattr(torch.utils.deterministic, "fill_uninitialized_memory", False),
        lambda: torch.utils.deterministic.fill_uninitialized_memory,
    ),
    "a process group": (make_group, torch.distributed.is_initialized),
    "a limit": (
        lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1])),
        lambda: resource.getrlimit(resource.RLIMIT_CORE),
    ),
    "a timer": (lambda: signal.setitimer(signal.ITIMER_PROF, 1000), lambda: signal.getitimer(signal.ITIMER_PROF)),
    "the hook of threads": (lambda: setattr(threading, "excepthook", print), lambda: threading.excepthook),
    "a built-in name": (lambda: setattr(builtins, "print", max), lambda: builtins.print),
    "gradients": (lambda: torch.set_grad_enabled(False), torch.is_grad_enabled),
}


@pytest.mark.parametrize("name", CHANGES)
def test_the_next_trial_finds_the_process_as_it_was(name: str) -> None:
    change, look = CHANGES[name]
    before = look()
    with restored_process():
        change()
        assert name in ("the locale", "the umask", "a limit") or look() != before
    assert look() == before
    assert process_state._unrestored == []


def test_a_handlers_file_is_closed() -> None:
    handler = logging.FileHandler(os.devnull)
    stream = handler.stream
    with restored_process():
        logging.getLogger("mine").addHandler(handler)
    assert stream is not None and stream.closed


@pytest.mark.parametrize("raised", [SystemExit, ValueError])
def test_a_trial_that_was_stopped_or_failed_leaves_no_file_open(raised: type[BaseException], tmp_path: Path) -> None:
    """Tune stops a trial by an exception, whose traceback held what the fit had: the demo's memory-mapped images."""
    np.save(tmp_path / "images.npy", np.zeros(3))

    def fit() -> None:
        images = open(tmp_path / "images.npy", "rb")  # noqa: SIM115 - nobody closes it
        try:
            raise raised(images.name)
        except ValueError as error:
            raise RuntimeError("what the user's code raised") from error

    with pytest.raises((SystemExit, RuntimeError)), restored_process():
        fit()
    process_state.check_process()


def test_the_data_of_a_trial_that_finished_is_not_in_use(tmp_path: Path) -> None:
    """The demo's images are memory-mapped: each of its trials got a process of its own."""
    progress = FitProgress()
    with restored_process(), plain_errors(progress):
        progress.trainer = SimpleNamespace(images=(tmp_path / "images").open("w"))
    process_state.check_process()


def test_what_can_not_be_restored_gets_the_next_trial_a_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`torch.set_num_interop_threads` is like that, and would be for good here too."""
    threads, opened = [1], []

    def refuse(_: int) -> None:
        raise RuntimeError("cannot set number of interop threads after parallel work has started")

    monkeypatch.setitem(process_settings.SETTINGS, "torch.set_num_interop_threads", (lambda: threads[0], refuse))
    for _ in range(2):
        process_state.check_process()
        with restored_process():
            (tmp_path / "read").write_text("x")
            with (tmp_path / "read").open():
                pass
    with restored_process():
        threads[0] = 2
        opened.append((tmp_path / "log").open("w"))
        monkeypatch.setattr("locale.setlocale", refuse)
    left = rf"the locale, torch\.set_num_interop_threads, open files: .*{tmp_path}/log"
    with pytest.raises(process_state.FreshProcessError, match=f"it gets a new process, since .*: .*{left}") as wish:
        process_state.check_process()
    assert wish.value.preempted and not wish.value.failure  # Tune does not count it
    with pytest.raises(process_state.FreshProcessError, match=r"^boom; it is tried again in a new process") as wish:
        process_state.check_process("boom")
    assert not wish.value.preempted
    again = pickle.loads(pickle.dumps(wish.value))  # noqa: S301
    assert (str(again), again.failure, again.preempted) == (str(wish.value), "boom", False)
    opened[0].close()


def test_a_trial_is_tried_again_where_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that may pass, after the trial set what can't be undone; the next trial begins nothing here."""

    def fit(*_: Any) -> bool:
        process_state._unrestored.append("its state")
        raise StorageError("no answer")

    monkeypatch.setattr(trials, "fit_here", fit)
    monkeypatch.setattr(tune, "get_context", lambda: SimpleNamespace(get_trial_id=lambda: "t00000"))
    spec = RunSpec(run="r", uri=str(tmp_path), config=RUN_FILE, use_gpu=False)
    with pytest.raises(process_state.FreshProcessError, match="no answer; it is tried again"):
        trials.run({}, spec)
    with pytest.raises(process_state.FreshProcessError, match="it gets a new process"):
        trials.run({}, spec)


def test_what_modules_set_when_they_are_imported_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are imported once: the second trial would otherwise train with other defaults than the first."""
    body = "import os, sys, torch\nsys.path.insert(0, '/mine/{0}')\nos.environ['MINE_{0}'] = '1'\n"
    (tmp_path / "own_module.py").write_text(body.format("module") + "class Model: pass\n")
    main = "if __name__ == '__main__':\n    os.environ['MINE_main'] = '2'\n"
    (tmp_path / "own_script.py").write_text(body.format("script") + main)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(os, "environ", os.environ)
    seen: list[tuple[Any, ...]] = []

    def fit(config: Any, *_: Any) -> bool:
        load_script("own_script.py")()
        names = ("MINE_module", "MINE_script", "MINE_main")
        seen.append((*map(os.environ.get, names), "/mine/module" in sys.path, "/mine/script" in sys.path))
        return False

    monkeypatch.setattr(trials, "fit_here", fit)
    monkeypatch.setattr(tune, "get_context", lambda: SimpleNamespace(get_trial_id=lambda: "t00000"))
    text = RUN_FILE.replace("m.M}", "own_module.Model}").replace("failure:", "cli: own_script.py\nfailure:")
    spec = RunSpec(run="r", uri=str(tmp_path), config=text, use_gpu=False)
    environment = dict(os.environ)
    for _ in range(2):
        trials.run({}, spec)
    assert seen == [("1", "1", "2", True, True)] * 2 and "MINE_main" not in os.environ
    os.environ.pop("MINE_module")
    os.environ.pop("MINE_script")
    assert dict(os.environ) == environment


def test_a_run_of_wandb_ends_with_its_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    wandb: Any = types.ModuleType("wandb")
    wandb.run = None
    wandb.finish = lambda exit_code: setattr(wandb, "run", None)
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
