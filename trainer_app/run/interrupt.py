"""Ctrl-C once ends cleanly, twice says so, three times kills.

Of Ray 2.60, measured: SIGINT is blocked in every process that `ray.init` starts and workers lead process groups of
their own, so a terminal's Ctrl-C reaches the driver alone; KeyboardInterrupt leaves a waiting `ray.get` within 2 s.
But `ray.init` replaces the driver's SIGTERM handler, `TorchTrainer.fit` and `Tuner.fit` its SIGINT handler (Train's
ends the process with 0, Tune's returns a result as if nothing had happened), and Lightning ignores SIGINT after the
first. So the handlers here can't be replaced while they are installed.
With them, `Tuner.fit` and `TorchTrainer.fit` raise KeyboardInterrupt 0 to 0.5 s after either signal, and `ray.shutdown`
after it takes 1.6 s and leaves no process.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

PATIENCE_S: Final = 10.0
# `uv run` and some shells pass on a signal that the terminal has sent to the whole group already.
SAME_SIGNAL_S: Final = 0.2
INTERRUPTED: Final = 130


class Interrupts:
    """Counts signals, and ends the run or the process as their number asks.

    Args:
        say: shows a line; called from a signal handler, so it takes no lock and writes through no buffered stream.
        kill: ends the process at once; returns only in tests.
    """

    def __init__(
        self, say: Callable[[str], None], kill: Callable[[], None], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._say, self._kill, self._clock = say, kill, clock
        self._count = 0
        self._last = -PATIENCE_S

    @property
    def requested(self) -> bool:
        """Whether the user asked for an end."""
        return self._count > 0

    def handle(self, signum: int, frame: FrameType | None) -> None:
        """The signal handler.

        Raises:
            KeyboardInterrupt: in the main thread, if the run has to end.
        """
        now, before = self._clock(), self._last
        if now - before < SAME_SIGNAL_S:
            return
        self._count, self._last = self._count + 1, now
        name = signal.Signals(signum).name
        if self._count >= 3:
            self._say(f"{name} for the third time: killed; the last epoch may not be recorded")
            self._kill()
        elif self._count == 2 and now - before < PATIENCE_S:
            self._say(f"ending ... {name} once more kills, and may lose the last epoch")
        else:
            # A second time after a long while: the first one may have been swallowed (__del__, a C++ callback).
            self._say(f"{name}: ending the run ...")
            raise KeyboardInterrupt


def _signals() -> list[signal.Signals]:
    """Return the signals to handle; SIGHUP (the terminal was closed) unless the command was started with nohup."""
    signals = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signals.append(signal.SIGHUP)
    return signals


def end_at_sigterm() -> None:
    """From now on SIGTERM ends this process as Ctrl-C does, also while no run is driven yet or any more.

    So what is held is released, such as a submitted run's lease, for which its next attempt would wait.
    """
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, signal.default_int_handler)


@contextmanager
def installed(interrupts: Interrupts) -> Iterator[Interrupts]:
    """Handle SIGINT, SIGTERM and SIGHUP through `interrupts`, whatever a library tries to install meanwhile.

    Only in the main thread: elsewhere Python allows no handlers, and this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
    plain_signal = signal.signal
    before = {signum: plain_signal(signum, interrupts.handle) for signum in _signals()}

    def keep_ours(signum: int, handler: Any) -> Any:
        return signal.getsignal(signum) if signum in before else plain_signal(signum, handler)

    signal.signal = keep_ours  # type: ignore[assignment]
    try:
        yield interrupts
    finally:
        signal.signal = plain_signal
        for signum, handler in before.items():
            # None: installed by C code, which Python can't put back.
            plain_signal(signum, signal.SIG_DFL if handler is None else handler)
