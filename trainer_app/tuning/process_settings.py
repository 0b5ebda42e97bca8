"""Settings of a process that user code changes, each with how it is read and written."""

from __future__ import annotations

import builtins
import faulthandler
import gc
import locale
import multiprocessing
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import torch

Setting = tuple[Callable[[], Any], Callable[[Any], Any]]  # (read, write)


def _set_environment(values: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(values)
    time.tzset()


def _get_umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _get_limits() -> dict[int, tuple[int, int]]:
    kinds = {getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")}
    return {kind: resource.getrlimit(kind) for kind in kinds}


def _set_limits(values: dict[int, tuple[int, int]]) -> None:
    for kind, limits in values.items():
        if resource.getrlimit(kind) != limits:
            resource.setrlimit(kind, limits)


_TIMERS: Final = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)


def _get_timers() -> list[bool]:
    return [any(signal.getitimer(timer)) for timer in _TIMERS]


def _stop_timers(running: list[bool]) -> None:
    for timer in [timer for timer, runs in zip(_TIMERS, running, strict=True) if not runs]:
        signal.setitimer(timer, 0)


def _list_setting(owner: Any, name: str) -> Setting:
    """A list that others hold, so that its content is replaced and not the list."""

    def write(values: list[Any]) -> None:
        getattr(owner, name)[:] = values

    return lambda: list(getattr(owner, name)), write


def _attributes(owner: Any, *names: str) -> Setting:
    def write(values: list[Any]) -> None:
        for name, value in zip(names, values, strict=True):
            setattr(owner, name, value)

    return lambda: [getattr(owner, name) for name in names], write


def _get_builtins() -> dict[str, Any]:
    return {name: value for name, value in vars(builtins).items() if name != "_"}


class _Builtins(dict[str, Any]):
    """Built-in names; equal to others if none of its own has another value: libraries add some when imported."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, dict) and all(other.get(name) is value for name, value in self.items())

    __hash__ = None


def _set_start_method(method: str | None) -> None:
    multiprocessing.set_start_method(method, force=True)  # None: not chosen yet


def _set_default_device(device: torch.device) -> None:
    torch.set_default_device(None if device.type == "cpu" else device)


def _set_determinism(values: tuple[bool, bool]) -> None:
    """Takes 6 s the first time, since torch imports its compiler."""
    torch.use_deterministic_algorithms(values[0], warn_only=values[1])


def _get_determinism() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _has_process_group() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


_cudnn, _cuda, _mkldnn = torch.backends.cudnn, torch.backends.cuda, torch.backends.mkldnn

SETTINGS: Final[dict[str, Setting]] = {
    "environment variables": (lambda: dict(os.environ), _set_environment),
    "the working directory": (os.getcwd, os.chdir),
    "the umask": (_get_umask, os.umask),
    "the locale": (lambda: locale.setlocale(locale.LC_ALL), lambda value: locale.setlocale(locale.LC_ALL, value)),
    "resource.setrlimit": (_get_limits, _set_limits),
    "signal.setitimer": (_get_timers, _stop_timers),
    "faulthandler": (faulthandler.is_enabled, lambda value: (faulthandler.enable if value else faulthandler.disable)()),
    "sys.path": _list_setting(sys, "path"),
    "sys.argv": _list_setting(sys, "argv"),
    "the streams of sys": _attributes(sys, "stdin", "stdout", "stderr"),
    "the hooks of sys": _attributes(sys, "excepthook", "unraisablehook", "displayhook", "breakpointhook", "exit"),
    "threading.excepthook": _attributes(threading, "excepthook"),
    "sys.setrecursionlimit": (sys.getrecursionlimit, sys.setrecursionlimit),
    "sys.setswitchinterval": (sys.getswitchinterval, sys.setswitchinterval),
    "builtins": (lambda: _Builtins(_get_builtins()), lambda values: vars(builtins).update(values)),
    "socket.setdefaulttimeout": (socket.getdefaulttimeout, socket.setdefaulttimeout),
    "gc": (gc.isenabled, lambda value: (gc.enable if value else gc.disable)()),
    "gc.set_threshold": (gc.get_threshold, lambda values: gc.set_threshold(*values)),
    "multiprocessing.set_start_method": (lambda: multiprocessing.get_start_method(allow_none=True), _set_start_method),
    "numpy.seterr": (np.geterr, lambda values: np.seterr(**values)),
    "numpy.set_printoptions": (np.get_printoptions, lambda values: np.set_printoptions(**values)),
    "torch.multiprocessing.set_sharing_strategy": (
        torch.multiprocessing.get_sharing_strategy,
        torch.multiprocessing.set_sharing_strategy,
    ),
    "torch.set_default_dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "torch.set_default_device": (torch.get_default_device, _set_default_device),
    "torch.set_num_threads": (torch.get_num_threads, torch.set_num_threads),
    "torch.set_num_interop_threads": (torch.get_num_interop_threads, torch.set_num_interop_threads),
    "torch.set_grad_enabled": (torch.is_grad_enabled, torch.set_grad_enabled),
    "torch.use_deterministic_algorithms": (_get_determinism, _set_determinism),
    "torch.utils.deterministic": _attributes(torch.utils.deterministic, "fill_uninitialized_memory"),
    "torch.autograd.set_detect_anomaly": (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    "torch.set_warn_always": (torch.is_warn_always_enabled, torch.set_warn_always),
    "torch.distributed.init_process_group": (
        _has_process_group,
        lambda _: torch.distributed.destroy_process_group(),
    ),
    "torch.backends.cudnn": _attributes(_cudnn, "enabled", "benchmark", "deterministic", "benchmark_limit"),
    "torch.backends.mkldnn": _attributes(_mkldnn, "enabled", "deterministic"),
    "the backends of scaled_dot_product_attention": (
        lambda: (_cuda.flash_sdp_enabled(), _cuda.mem_efficient_sdp_enabled(), _cuda.math_sdp_enabled()),
        lambda values: (
            _cuda.enable_flash_sdp(values[0]),
            _cuda.enable_mem_efficient_sdp(values[1]),
            _cuda.enable_math_sdp(values[2]),
        ),
    ),
    # The same numbers in two interfaces of torch 2.14: reading the old one raises where the new one was used, and
    # writing the old one sets the new one.
    "torch.backends.cudnn.allow_tf32": _attributes(_cudnn, "allow_tf32"),
    "torch.backends.cuda.matmul.allow_tf32": _attributes(_cuda.matmul, "allow_tf32"),
    "torch.set_float32_matmul_precision": (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    "torch.backends.fp32_precision": _attributes(torch.backends, "fp32_precision"),
    "torch.backends.cuda.matmul.fp32_precision": _attributes(_cuda.matmul, "fp32_precision"),
    "torch.backends.cudnn.fp32_precision": _attributes(_cudnn, "fp32_precision"),
    "torch.backends.cudnn.conv.fp32_precision": _attributes(_cudnn.conv, "fp32_precision"),
    "torch.backends.cudnn.rnn.fp32_precision": _attributes(_cudnn.rnn, "fp32_precision"),
    "torch.backends.mkldnn.matmul.fp32_precision": _attributes(_mkldnn.matmul, "fp32_precision"),
    "torch.backends.mkldnn.conv.fp32_precision": _attributes(_mkldnn.conv, "fp32_precision"),
    "torch.backends.mkldnn.rnn.fp32_precision": _attributes(_mkldnn.rnn, "fp32_precision"),
}
