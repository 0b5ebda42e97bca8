"""The verbs with a fake driver, in processes of their own: pipes, a pseudo-terminal, signals."""

from __future__ import annotations

import inspect
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from fcntl import ioctl
from pathlib import Path
from typing import Any

import pytest

from tests.unit import fake_driver
from tests.unit.test_run_request import RUN_FILE
from trainer_app.__main__ import main
from trainer_app.cli.train import train
from trainer_app.cli.tune import tune

pytestmark = pytest.mark.unit
ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "run.yaml").write_text(RUN_FILE)
    return tmp_path


def words(scenario: str, *args: str) -> list[str]:
    given = ["run.yaml", "--name", "mnist-1", "--log", "x.log", *args]
    return [sys.executable, str(ROOT / "tests/unit/fake_driver.py"), scenario, "tune", *given]


def environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("TRAINER_", "COLUMNS", "LINES"))}
    return {**kept, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", **more}


def piped(folder: Path, scenario: str, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words(scenario, *args),
        cwd=folder,
        env=environment(**env),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class Terminal:
    """The command on a pseudo-terminal of 80x24, whose output is collected."""

    def __init__(self, folder: Path, scenario: str, *, width: int = 80) -> None:
        self.master, slave = pty.openpty()
        ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
        self.output = ""
        self.child = subprocess.Popen(
            words(scenario),
            cwd=folder,
            env=environment(FAKE_DRIVER_TERMINAL="1"),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)

    def read(self, until: str = "", seconds: float = 20) -> str:
        """Read to a text, or to the end; returns all there was so far."""
        end = time.monotonic() + seconds
        while not until or until not in self.output:
            ready, _, _ = select.select([self.master], [], [], max(0, end - time.monotonic()))
            if not ready:
                raise AssertionError(f"{until or 'the end'!r} did not come; there was:\n{self.output}")
            try:
                data = os.read(self.master, 65536)
            except OSError:  # EIO: the other side is closed
                data = b""
            if not data:
                if until:
                    raise AssertionError(f"ended without {until!r}:\n{self.output}")
                break
            self.output += data.decode()
        return self.output

    def press_ctrl_c(self) -> None:
        os.write(self.master, b"\x03")

    def wait(self) -> int:
        self.read()
        code = self.child.wait(20)
        os.close(self.master)
        return code

    @property
    def text(self) -> str:
        """Without escape sequences."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.output).replace("\r", "")


def test_a_pipe_gets_plain_lines_and_the_log_the_noise(folder: Path) -> None:
    done = piped(folder, "noisy")
    assert done.returncode == 0
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    assert "noise" not in done.stdout
    assert done.stdout.splitlines()[0] == "run mnist-1: tune, 3 trials, max val_accuracy, in runs"
    assert done.stdout.splitlines()[-1] == "results    trainer results runs/mnist-1"
    log = (folder / "x.log").read_text()
    for what in ("print", "stderr", "fd 1", "a child", "its stderr", "a warning"):
        assert f"noise of {what}" in log


def test_a_submitted_run_says_how_far_it_is(folder: Path) -> None:
    """In its pod: the submitter reads it there."""
    done = piped(folder, "quick", TRAINER_SUBMISSION="s-1", TRAINER_RUN="mnist-1")
    lines = [line for line in done.stderr.splitlines() if line.startswith("progress: ")]
    assert lines[0] == "progress: 0/3 trials, epoch: 0"
    assert lines[-1] == "progress: 3/3 trials, epoch: 7, metric: val_accuracy=0.975"
    assert len(lines) == 2  # what comes within 10 s waits for the end
    assert "progress: " not in piped(folder, "quick").stderr


def test_json_has_nothing_but_events_on_stdout(folder: Path) -> None:
    done = piped(folder, "noisy", "--json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [e["event"] for e in events] == [e["event"] for e in fake_driver.sweep()]
    assert done.stderr == ""


def test_an_unexpected_error_is_one_line_and_its_traceback_is_in_the_log(folder: Path) -> None:
    done = piped(folder, "broken", "--json")
    assert done.returncode == 1
    first, second = done.stderr.splitlines()
    assert first == f"internal error: RuntimeError: boom in two lines; see {folder / 'x.log'}"
    assert second == f"resume with: trainer tune --resume mnist-1 --storage {folder}/from-file"
    assert "Traceback" in (folder / "x.log").read_text()
    last = json.loads(done.stdout.splitlines()[-1])
    assert (last["event"], last["state"]) == ("end", "failed")
    again = piped(folder, "broken", "--test", TRAINER_DEBUG="1").stderr
    assert "Traceback" in again and again.endswith(f" --storage {folder}/from-file --test\n")


def test_bad_input_starts_nothing(folder: Path) -> None:
    before = sorted(folder.iterdir())
    done = piped(folder, "quick", "trainer.max_epoch=1", "model.class_pth=x")
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 2
    assert "trainer.max_epoch" in done.stderr
    assert sorted(folder.iterdir()) == before


def test_the_driver_is_called_as_agreed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    calls: list[dict[str, Any]] = []
    for name, module in fake_driver.install(fake_driver.quick, calls).items():
        monkeypatch.setitem(sys.modules, name, module)
    assert main(["tune", "run.yaml", "--name", "a", "--log", "x.log"]) == 0
    assert main(["train", "run.yaml", "--resume", "b", "--log", "x.log", "--test"]) == 0
    assert main(["train", "run.yaml", "--name", "c", "--log", "-"]) == 0
    for call in calls:
        assert call.pop("config").name == "mnist"
    log = str(folder / "x.log")
    assert calls == [
        {"task": "tune", "name": "a", "resume": False, "log": log},
        {"task": "train", "name": "b", "resume": True, "log": log, "test": True},
        {"task": "train", "name": "c", "resume": False, "log": None},
    ]


def test_train_and_tune_are_asked_in_the_same_words() -> None:
    assert inspect.signature(train) == inspect.signature(tune)


def test_an_error_that_is_known_keeps_its_exit_code(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trainer_app.errors import AlreadyExistsError, StorageError

    monkeypatch.chdir(folder)
    for error, code in ((AlreadyExistsError("run a is there"), 2), (StorageError("no answer"), 1)):

        def fail(emit: fake_driver.Emit, error: Exception = error) -> int:
            raise error

        for name, module in fake_driver.install(fail).items():
            monkeypatch.setitem(sys.modules, name, module)
        assert main(["tune", "run.yaml", "--log", "x.log"]) == code


def test_a_reader_that_leaves_does_not_end_the_run(folder: Path) -> None:
    done = folder / "done"
    child = subprocess.Popen(
        words("counting"),
        cwd=folder,
        env=environment(FAKE_DRIVER_DONE=str(done)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert child.stdout and child.stderr
    assert child.stdout.readline().startswith(b"run mnist-1")
    child.stdout.close()
    assert child.stderr.read() == b""
    child.stderr.close()
    assert child.wait(30) == 0
    assert done.exists()


@pytest.mark.parametrize("width", [80, 50])
def test_a_terminal_gets_a_live_table_and_then_one_that_stays(folder: Path, width: int) -> None:
    terminal = Terminal(folder, "noisy", width=width)
    assert terminal.wait() == 0
    assert "\x1b[?25l" in terminal.output  # it was live: the cursor was hidden,
    assert terminal.output.rindex("\x1b[?25h") > terminal.output.rindex("\x1b[?25l")  # and is back
    assert "noise" not in terminal.text
    stays = terminal.output[terminal.output.rindex("\x1b[?25h") :]
    assert "\x1b[2K" in stays  # the live table is wiped out before
    squeezed = re.sub(r"\s+", "", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stays))
    for what in ("t00000", "t00002", "max_t", "5/5", "best", "test_accuracy=0.9667", "trainerresultsruns/mnist-1"):
        assert what in squeezed
    assert "a note" in terminal.text


def test_the_live_table_shows_running_trials(folder: Path) -> None:
    terminal = Terminal(folder, "waiting")
    terminal.read("t00009")
    terminal.press_ctrl_c()
    assert terminal.wait() == 130
    for heading in ("trial", "state", "parameters", "val_accuracy", "epoch", "elapsed"):
        assert heading in terminal.text


def test_ctrl_c_once_ends_and_says_how_to_go_on(folder: Path) -> None:
    terminal = Terminal(folder, "waiting")
    terminal.read("t00009")
    started = time.monotonic()
    terminal.press_ctrl_c()
    assert terminal.wait() == 130
    assert time.monotonic() - started < 10
    squeezed = re.sub(r"\s+", "", terminal.text)  # the terminal wraps it
    assert f"interrupted;resumewith:trainertune--resumemnist-1--storage{folder}/from-file" in squeezed
    assert "mnist-1 interrupted in" in terminal.text
    assert "Traceback" not in terminal.text
    assert terminal.output.rindex("\x1b[?25h") > terminal.output.rindex("\x1b[?25l")


def test_ctrl_c_three_times_kills_and_gives_the_cursor_back(folder: Path) -> None:
    terminal = Terminal(folder, "stubborn")
    terminal.read("t00009")
    terminal.press_ctrl_c()
    terminal.read("ending the run")
    time.sleep(0.5)  # longer than two deliveries of one key press take
    terminal.press_ctrl_c()
    terminal.read("once more kills")
    time.sleep(0.5)
    terminal.press_ctrl_c()
    assert terminal.wait() == 130
    assert terminal.output.rindex("\x1b[?25h") > terminal.output.rindex("\x1b[?25l")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_piped_run_with_130_and_a_last_event(folder: Path, signum: signal.Signals) -> None:
    child = subprocess.Popen(
        words("waiting", "--json"),
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout
    lines: list[str] = []
    while not lines or "t00009" not in lines[-1]:
        lines.append(child.stdout.readline())
    time.sleep(0.2)
    child.send_signal(signum)
    out, err = child.communicate(timeout=20)
    assert child.returncode == 130
    last = json.loads(out.splitlines()[-1])
    assert (last["event"], last["state"]) == ("end", "interrupted")
    assert err.splitlines()[-1].startswith("interrupted; resume with: trainer tune --resume mnist-1")


def test_a_terminal_that_goes_away_is_an_interruption(folder: Path) -> None:
    terminal = Terminal(folder, "waiting")
    terminal.read("t00009")
    os.close(terminal.master)
    assert terminal.child.wait(20) == 130


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_the_run_begins_ends_it_too(folder: Path, signum: signal.Signals) -> None:
    """The run file is a pipe that nobody writes to."""
    (folder / "run.yaml").unlink()
    os.mkfifo(folder / "run.yaml")
    child = subprocess.Popen(words("waiting"), cwd=folder, env=environment(), stderr=subprocess.PIPE, text=True)
    writer = os.open(folder / "run.yaml", os.O_WRONLY)  # it reads now
    time.sleep(0.2)
    child.send_signal(signum)
    _, err = child.communicate(timeout=20)
    os.close(writer)
    assert child.returncode == 130 and "Traceback" not in err
