"""Fixtures for all tests."""

import os
import signal
from collections.abc import Iterator

import pytest

from tests.s3 import s3, s3_server

__all__ = ["s3", "s3_server"]


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    """Each test leaves the environment as it was, which what later tests start inherits.

    A fit of several devices in this process sets LOCAL_RANK and MASTER_PORT, a driver PYTHONPATH, a logger its address.
    """
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


def pytest_configure() -> None:
    """As in a terminal: a shell's background job is started with SIGINT ignored, and so would be all that it starts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="run the tests marked `full`, too: slow, and rarely broken")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without `--full` the tests marked `full` are deselected, and pytest's summary says how many.

    On all cores, the files with the longest tests, of several ranks, come first: at the end none is waited for alone.
    """
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: not item.path.name.startswith("test_train_"))
    if config.getoption("--full"):
        return
    left = [item for item in items if item.get_closest_marker("full")]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if not item.get_closest_marker("full")]
