from __future__ import annotations

import logging
import os
import re
import stat
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import pytest

from trainer_app.cli import redirect
from trainer_app.errors import InputError

pytestmark = pytest.mark.unit


def make_noise() -> None:
    print("by print")
    sys.stderr.write("by stderr\n")
    os.write(1, b"by fd 1\n")
    os.write(2, b"by fd 2\n")
    subprocess.run(["sh", "-c", "echo by child; echo by child stderr >&2"], check=True)
    logging.getLogger("some.library").warning("by logging")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("by warnings", stacklevel=1)


KINDS = ["by print", "by stderr", "by fd 1", "by fd 2", "by child", "by child stderr", "by logging", "by warnings"]


def test_all_noise_goes_to_the_log_and_the_real_streams_are_handed_out(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "sub" / "x.log"
    streams = sys.stdout, sys.stderr
    with redirect.to_log(log) as real:
        make_noise()
        print("for the screen", file=real.out)
        print("for errors", file=real.err)
    assert (sys.stdout, sys.stderr) == streams
    print("afterwards")
    out, err = capfd.readouterr()
    assert out == "for the screen\nafterwards\n"
    assert err == "for errors\n"
    written = log.read_text()
    for kind in KINDS:
        assert kind in written
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def fail_after(text: str) -> None:
    print(text)
    raise ZeroDivisionError


def test_streams_come_back_after_an_error_and_the_log_is_appended(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "x.log"
    for text in ("first", "second"):
        with pytest.raises(ZeroDivisionError), redirect.to_log(log):
            fail_after(text)
    print("after")
    assert capfd.readouterr().out == "after\n"
    assert log.read_text() == "first\nsecond\n"


def test_without_a_log_stdout_stays_ours_and_noise_is_on_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    with redirect.to_log(None) as real:
        make_noise()
        print("ours", file=real.out)
    out, err = capfd.readouterr()
    assert out == "ours\n"
    for kind in KINDS:
        assert kind in err


def test_children_do_not_hold_the_real_streams_open(tmp_path: Path) -> None:
    """A reader of our output sees its end when we end, although a daemon of ours lives on."""
    code = f"""
import subprocess, sys
from pathlib import Path
from trainer_app.cli import redirect
with redirect.to_log(Path({str(tmp_path / "x.log")!r})) as real:
    child = subprocess.Popen(["sleep", "30"], close_fds=False)
    print(child.pid, file=real.out)
"""
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    out, _ = child.communicate(timeout=20)  # waits for the pipe's end
    os.kill(int(out), 9)


def test_no_descriptor_is_left(tmp_path: Path) -> None:
    def count() -> int:
        return len(list(Path("/dev/fd").iterdir()))  # of Linux and macOS

    before = count()
    for _ in range(5):
        with redirect.to_log(tmp_path / "x.log"):
            pass
    assert count() == before


def test_a_log_that_cannot_be_written_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    for path in (tmp_path / "file" / "x.log", tmp_path, tmp_path / "link"):
        with pytest.raises(InputError, match="--log"), redirect.to_log(path):
            raise AssertionError


def test_the_default_log_is_in_a_folder_of_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    log = redirect.default_log("mnist-1", "s3://bucket/a")
    assert log.parent == tmp_path / f"trainer-{os.getuid()}"
    assert re.fullmatch(r"mnist-1-[0-9a-f]{8}\.log", log.name)
    assert stat.S_IMODE(log.parent.stat().st_mode) == 0o700
    assert redirect.default_log("mnist-1", "s3://bucket/a") == log


def test_runs_of_one_name_in_two_projects_have_two_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logs = []
    for project in ("one", "two"):
        (tmp_path / project).mkdir()
        monkeypatch.chdir(tmp_path / project)
        logs.append(redirect.log_path(None, "mnist-1", "runs"))
    assert logs[0] != logs[1]
    assert redirect.log_path(None, "mnist-1", str(tmp_path / "two/runs")) == logs[1]  # from wherever it is resumed
    assert redirect.log_path("-", "mnist-1", "runs") is None
    assert redirect.log_path("x.log", "mnist-1", "runs") == tmp_path / "two/x.log"


@pytest.mark.parametrize("trap", ["link", "file", "open"])
def test_a_folder_that_others_prepared_is_not_used(trap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = tmp_path / f"trainer-{os.getuid()}"
    if trap == "link":
        (tmp_path / "elsewhere").mkdir()
        folder.symlink_to(tmp_path / "elsewhere")
    elif trap == "file":
        folder.write_text("")
    else:
        folder.mkdir()
        folder.chmod(0o777)
    log = redirect.default_log("mnist-1", "runs")
    assert log.parent.parent == tmp_path
    assert log.parent not in (folder, tmp_path / "elsewhere")
