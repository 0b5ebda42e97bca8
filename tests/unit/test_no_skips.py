"""The rule about skipped tests on CI, through a real pytest."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.unit

SUITE = """
import pytest
from tests.plugins import no_skips
no_skips.PROBES.update(kind=lambda: True, cuda=lambda: False)

def test_there(): pytest.skip("needs kind: not on PATH")
def test_absent(): pytest.skip("needs cuda: no device")
def test_vague(): pytest.skip("flaky")
@pytest.mark.skip(reason="later")
def test_marked(): pass
@pytest.mark.xfail(reason="known", strict=True)
def test_known(): assert False
"""


def outcome(folder: Path, **env: str) -> str:
    """pytest's last line for SUITE."""
    folder.joinpath("test_suite.py").write_text(SUITE)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.plugins.no_skips", "-c", os.devnull, "test_suite.py"]
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "TRAINER"))}
    run = subprocess.run(
        command, cwd=folder, env={**plain, "PYTHONPATH": str(ROOT), **env}, capture_output=True, text=True, timeout=60
    )
    return run.stdout.splitlines()[-1]


def test_on_ci_only_what_the_machine_lacks_is_skipped(tmp_path: Path) -> None:
    line = outcome(tmp_path, TRAINER_CI="required")
    assert line.startswith("2 failed, 1 skipped, 1 xfailed, 1 error"), line


def test_elsewhere_a_skip_stays_a_skip(tmp_path: Path) -> None:
    line = outcome(tmp_path)
    assert line.startswith("4 skipped, 1 xfailed"), line


def test_a_module_skipped_as_a_whole_fails_too(tmp_path: Path) -> None:
    tmp_path.joinpath("test_whole.py").write_text("import pytest\npytest.skip('later', allow_module_level=True)\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.plugins.no_skips", "-c", os.devnull, "test_whole.py"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TRAINER_CI": "required"}
    run = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
    assert run.returncode != 0
    assert "skipped on CI ('later')" in run.stdout
