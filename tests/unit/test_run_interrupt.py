from __future__ import annotations

import signal
import threading
from collections.abc import Callable

import pytest

from trainer_app.run.interrupt import Interrupts, installed

pytestmark = pytest.mark.unit


class Hands:
    """A person at a keyboard, with a clock."""

    def __init__(self) -> None:
        self.now = 100.0
        self.said: list[str] = []
        self.kills = 0
        self.interrupts = Interrupts(self.said.append, self.kill, clock=lambda: self.now)

    def kill(self) -> None:
        self.kills += 1

    def press(self, after: float) -> bool:
        """Whether KeyboardInterrupt came out."""
        self.now += after
        try:
            self.interrupts.handle(signal.SIGINT, None)
        except KeyboardInterrupt:
            return True
        return False


def test_once_ends_twice_says_so_three_times_kills() -> None:
    hands = Hands()
    assert not hands.interrupts.requested
    assert hands.press(1)
    assert hands.interrupts.requested
    assert not hands.press(5)
    assert "once more kills" in hands.said[-1]
    assert hands.kills == 0
    hands.press(5)
    assert hands.kills == 1


def test_the_same_signal_twice_at_once_counts_once() -> None:
    hands = Hands()
    assert hands.press(1)
    assert not hands.press(0.01)
    assert not hands.press(0.01)
    assert hands.kills == 0
    assert len(hands.said) == 1


def test_a_second_one_after_a_long_while_interrupts_again() -> None:
    hands = Hands()
    assert hands.press(1)
    assert hands.press(11)
    hands.press(1)
    assert hands.kills == 1


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_libraries_cannot_take_the_handlers_away(signum: signal.Signals) -> None:
    before = signal.getsignal(signum)
    hands = Hands()
    with installed(hands.interrupts):
        kept = signal.signal(signum, signal.SIG_IGN)
        assert kept == hands.interrupts.handle
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signum)
    assert signal.getsignal(signum) == before
    assert signal.signal(signum, before) == before


def test_other_signals_are_free() -> None:
    def handler(*_: object) -> None: ...

    with installed(Hands().interrupts):
        before = signal.signal(signal.SIGUSR1, handler)
        assert signal.getsignal(signal.SIGUSR1) is handler
        signal.signal(signal.SIGUSR1, before)


def test_nohup_is_respected() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with installed(Hands().interrupts):
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_in_another_thread_nothing_is_installed() -> None:
    before, seen = signal.getsignal(signal.SIGINT), []

    def look() -> None:
        with installed(Hands().interrupts):
            seen.append(signal.getsignal(signal.SIGINT))

    in_thread(look)
    assert seen == [before]


def in_thread(target: Callable[[], None]) -> None:
    thread = threading.Thread(target=target)
    thread.start()
    thread.join(10)
