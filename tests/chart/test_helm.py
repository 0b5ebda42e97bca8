"""The chart tests go through the real helm; this one says whether it is there, and new enough."""

import re
import shutil
import subprocess

import pytest

pytestmark = pytest.mark.chart
OLDEST = (3, 14)


def test_helm_is_new_enough() -> None:
    if shutil.which("helm") is None:
        pytest.skip("needs helm: not on PATH")
    printed = subprocess.run(
        ["helm", "version", "--short"], capture_output=True, text=True, timeout=30, check=True
    ).stdout
    version = re.match(r"v(\d+)\.(\d+)", printed)
    assert version, printed
    assert (int(version[1]), int(version[2])) >= OLDEST, f"helm {printed.strip()}; the chart needs 3.14 or newer"
