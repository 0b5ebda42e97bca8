"""On CI a test may be skipped only for want of something that the machine can't have.

With TRAINER_CI=required every skip is a failure, unless its reason says `needs THING`, THING is one of PROBES, and the
probe finds that this machine has none. A reason in other words is a failure too: nobody could tell what it waits for.
"""

import os
import re
import shutil
from collections.abc import Callable, Generator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")  # Debian's package dataset-fashion-mnist

PROBES: dict[str, Callable[[], bool]] = {
    "git": lambda: shutil.which("git") is not None,
    "helm": lambda: shutil.which("helm") is not None,
    "kind": lambda: shutil.which("kind") is not None,
    "kubectl": lambda: shutil.which("kubectl") is not None,
    "docker": lambda: shutil.which("docker") is not None,
    "chromium": lambda: shutil.which("chromium") is not None,
    "transformers": lambda: find_spec("transformers") is not None,
    "cuda": lambda: Path("/dev/nvidia0").exists(),
    "dataset-fashion-mnist": FASHION_MNIST.is_dir,
}


def verdict(reason: str) -> str | None:
    """Why a test with this reason may not be skipped here; None if it may."""
    named = re.search(r"\bneeds ([\w-]+)", reason)
    if not named or named[1] not in PROBES:
        return f"skipped on CI ({reason!r}); say 'needs THING', with THING one of {', '.join(PROBES)}"
    if PROBES[named[1]]():
        return f"skipped on CI ({reason!r}), but this machine has {named[1]}"
    return None


def _refuse(report: Any) -> None:
    if not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if why := verdict(reason.removeprefix("Skipped: ")):
        report.outcome = "failed"
        report.longrepr = why


if os.environ.get("TRAINER_CI") == "required":

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        _refuse(report)
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        report = yield
        _refuse(report)
        return report
