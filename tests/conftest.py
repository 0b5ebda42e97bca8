"""Fixtures for all tests."""

import signal

from tests.s3 import s3, s3_server

__all__ = ["s3", "s3_server"]


def pytest_configure() -> None:
    """As in a terminal: a shell's background job is started with SIGINT ignored, and so would be all that it starts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
