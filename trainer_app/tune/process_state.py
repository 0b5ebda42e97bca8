"""What a trial may change in its process, which the next trial uses again: recorded before it, restored after it."""

from __future__ import annotations

import gc
import locale
import logging
import multiprocessing
import os
import socket
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainer_app.checkpoint import rng_state

Restore = Callable[[], None]


@contextmanager
def restored_process() -> Iterator[None]:
    """Restore the process at the end: what one attempt of a trial sets, no other attempt and no other trial sees."""
    restores = [snapshot() for snapshot in (_process, _python, _logging, _random, _torch)]
    with warnings.catch_warnings():
        try:
            yield
        finally:
            _end_loggers()
            for restore in restores:
                restore()


def _process() -> Restore:
    """Environment, working directory, time zone, umask and locale."""
    environment, folder, mask, language = dict(os.environ), Path.cwd(), os.umask(0o022), locale.setlocale(locale.LC_ALL)
    os.umask(mask)

    def restore() -> None:
        os.environ.clear()
        os.environ.update(environment)
        time.tzset()
        os.chdir(folder)
        os.umask(mask)
        locale.setlocale(locale.LC_ALL, language)

    return restore


def _python() -> Restore:
    """The interpreter's settings, and how child processes are started, which can be set only once."""
    path, argv, streams, hook = list(sys.path), list(sys.argv), (sys.stdout, sys.stderr), sys.excepthook
    depth, timeout, collecting = sys.getrecursionlimit(), socket.getdefaulttimeout(), gc.isenabled()
    method = multiprocessing.get_start_method(allow_none=True)
    sharing = torch.multiprocessing.get_sharing_strategy()

    def restore() -> None:
        sys.path[:], sys.argv[:] = path, argv
        (sys.stdout, sys.stderr), sys.excepthook = streams, hook
        sys.setrecursionlimit(depth)
        socket.setdefaulttimeout(timeout)
        (gc.enable if collecting else gc.disable)()
        multiprocessing.set_start_method(method, force=True)  # None: not chosen yet
        torch.multiprocessing.set_sharing_strategy(sharing)

    return restore


def _logging() -> Restore:
    """Levels and handlers. A handler that is gone is closed, and with it its file."""
    disabled = logging.root.manager.disable
    before = {
        logger: (logger.level, list(logger.handlers), list(logger.filters), logger.propagate, logger.disabled)
        for logger in _all_loggers()
    }
    levels = {handler: handler.level for _, handlers, *_ in before.values() for handler in handlers}

    def restore() -> None:
        for logger in _all_loggers():
            kept = before.get(logger)
            for handler in set(logger.handlers) - levels.keys():
                if kept or not isinstance(handler, logging.NullHandler):  # which a library adds when it is imported
                    logger.removeHandler(handler)
                    handler.close()
            if kept:
                logger.setLevel(kept[0])
                logger.handlers[:], logger.filters[:], logger.propagate, logger.disabled = kept[1:]
        for handler, level in levels.items():
            handler.setLevel(level)
        logging.disable(disabled)

    return restore


def _all_loggers() -> list[logging.Logger]:
    named = list(logging.root.manager.loggerDict.values())
    return [logging.root, *(logger for logger in named if isinstance(logger, logging.Logger))]


def _random() -> Restore:
    """Generators of random numbers, and NumPy's settings."""
    state, errors, options = rng_state.capture(), np.geterr(), np.get_printoptions()

    def restore() -> None:
        rng_state.restore(state)
        np.seterr(**errors)
        np.set_printoptions(**options)

    return restore


def _torch() -> Restore:
    """Defaults of tensors and of computing."""
    dtype, device, threads = torch.get_default_dtype(), torch.get_default_device(), torch.get_num_threads()
    precision, anomaly = torch.get_float32_matmul_precision(), torch.is_anomaly_enabled()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    cudnn: Any = torch.backends.cudnn
    flags = cudnn.enabled, cudnn.benchmark, cudnn.deterministic

    def restore() -> None:
        torch.set_default_dtype(dtype)
        if torch.get_default_device() != device:
            torch.set_default_device(None if device.type == "cpu" else device)
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.autograd.set_detect_anomaly(anomaly)
        cudnn.enabled, cudnn.benchmark, cudnn.deterministic = flags
        torch.set_grad_enabled(True)

    return restore


def _end_loggers() -> None:
    """End the run that wandb or mlflow keep for the process: the next trial's would be joined to it, or refused."""
    wandb, mlflow = sys.modules.get("wandb"), sys.modules.get("mlflow")
    with suppress(Exception):  # the trial is over, and its result is known
        if wandb is not None and wandb.run is not None:
            wandb.finish()
        if mlflow is not None and mlflow.active_run() is not None:
            mlflow.end_run()
