"""The command `trainer` as a process of its own, with a temporary folder of its own and everything that it starts."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import psutil

from tests.s3 import _die_with_parent

ROOT = Path(__file__).parents[2]
MARK = "TRAINER_TEST_PLACE"
# A run takes 15 s on 2 idle cores, and was seen to take 140 s on busy ones.
PATIENCE_S = 280.0

Found = TypeVar("Found")
Event = dict[str, Any]


class Place:
    """A temporary folder (TMPDIR), and the processes that were started with it: on leaving, both are gone.

    Args:
        env: added to this process's environment, less all of AWS_*, TRAINER_* and RAY_*.
    """

    def __init__(self, env: Mapping[str, str] | None = None) -> None:
        # Short: Ray's sockets lie in it, and a socket's path has at most 107 characters.
        self.tmp = Path(tempfile.mkdtemp(prefix="t-"))
        self.mark = uuid.uuid4().hex
        dropped = ("AWS_", "TRAINER_", "RAY_", "TUNE_", "PYTHONDONTWRITEBYTECODE", "PYTHONPATH")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(dropped)}
        mine = {"TMPDIR": str(self.tmp), "PYTHONPATH": str(ROOT), "TRAINER_NUM_CPUS": "2", MARK: self.mark}
        self.env = {**kept, **mine, **(env or {})}

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self.tmp)

    def start(self, *words: str, cwd: Path, env: Mapping[str, str] | None = None) -> Command:
        """`trainer WORDS`, in a session of its own, with pipes."""
        command = [str(Path(sys.executable).with_name("trainer")), *words]
        return Command(command, cwd, {**self.env, **(env or {})})

    def run(self, *words: str, cwd: Path, env: Mapping[str, str] | None = None) -> Command:
        """`trainer WORDS` to its end."""
        command = self.start(*words, cwd=cwd, env=env)
        command.end()
        return command

    @property
    def began_ray(self) -> bool:
        """Whether any command of this place started a Ray."""
        return (self.tmp / "ray").exists()

    def processes(self) -> list[psutil.Process]:
        """Live processes that were started here, however they were orphaned and whatever they call themselves."""
        return [p for p in psutil.process_iter() if p.pid != os.getpid() and self._mine(p)]

    def _mine(self, process: psutil.Process) -> bool:
        """By its environment, or (Ray's workers write their titles over it) by an open file in the folder."""
        folder = Path(f"/proc/{process.pid}")
        try:
            if self.mark.encode() in (folder / "environ").read_bytes():
                return process.status() != psutil.STATUS_ZOMBIE
            return any(str(fd.readlink()).startswith(f"{self.tmp}/") for fd in (folder / "fd").iterdir())
        except (OSError, psutil.NoSuchProcess):  # ended meanwhile, or another user's
            return False

    def kill(self) -> None:
        """SIGKILL, again until nothing is left: a raylet may have started another worker meanwhile."""
        deadline = time.monotonic() + 20
        while found := self.processes():
            if time.monotonic() > deadline:
                raise AssertionError(f"still alive after SIGKILL: {found}")
            for process in sorted(found, key=lambda p: p.pid):  # the driver first: it sees nobody die
                try:
                    process.kill()
                except psutil.NoSuchProcess:
                    continue
            time.sleep(0.05)


class Command:
    """A process and what it printed. `out` and `err` are complete after `end`."""

    def __init__(self, command: list[str], cwd: Path, env: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            text=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - one system call, no lock is taken
        )
        self.seconds = 0.0
        self._began = time.monotonic()
        self._said: dict[str, list[str]] = {"out": [], "err": []}
        self._readers = [
            threading.Thread(target=self._read, args=(stream, self._said[name]), daemon=True)
            for name, stream in (("out", self.process.stdout), ("err", self.process.stderr))
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: Any, lines: list[str]) -> None:
        for line in stream:
            lines.append(line)  # noqa: PERF402 - seen line by line

    @property
    def out(self) -> str:
        return "".join(self._said["out"])

    @property
    def err(self) -> str:
        return "".join(self._said["err"])

    @property
    def code(self) -> int | None:
        return self.process.returncode

    @property
    def events(self) -> list[Event]:
        """The lines of --json so far."""
        return [json.loads(line) for line in list(self._said["out"]) if line.endswith("\n")]

    def of(self, kind: str) -> list[Event]:
        return [e for e in self.events if e["event"] == kind]

    def until(self, look: Callable[[], Found], seconds: float = PATIENCE_S) -> Found:
        """What `look` returns as soon as it is true; the command must live until then."""
        deadline = time.monotonic() + seconds
        while not (found := look()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"in vain after {seconds} s or exit {self.code}:\n{self.out}\n{self.err}")
            time.sleep(0.02)
        return found

    def interrupt(self) -> None:
        """Ctrl-C, as a terminal sends it to the foreground process."""
        self.process.send_signal(signal.SIGINT)

    def end(self, seconds: float = PATIENCE_S) -> int:
        """Wait for the end, and for the end of its output: a daemon that held a pipe open would hang a shell's `|`."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"still there after {seconds} s:\n{self.out[-2000:]}\n{self.err[-4000:]}") from error
        self.seconds = time.monotonic() - self._began
        for reader in self._readers:
            reader.join(20)
            assert not reader.is_alive(), "somebody holds the pipe open"
        return code
