"""Write docs/sweep.svg: what a terminal shows of the MNIST sweep, half-way and at its end.

    make screenshot

The run is a real one, in a pseudo-terminal. Paths of this machine are left out of the picture.
"""

from __future__ import annotations

import os
import pty
import re
import struct
import sys
import tempfile
import time
from dataclasses import dataclass, field
from fcntl import ioctl
from io import StringIO
from pathlib import Path
from subprocess import Popen
from termios import TIOCSWINSZ
from typing import Final

from rich.console import Console
from rich.text import Text

ROOT: Final = Path(__file__).parents[1]
COLUMNS, ROWS = 110, 40
RUN_FILE: Final = "trainer_app/examples/mnist/tune.yaml"
DATA: Final = "data.init_args.source=digits"  # as in the package scikit-learn: no download
COMMAND: Final = f"trainer tune {RUN_FILE} {DATA} --test"
# What rich's Live writes: text, colours, line ends, "up" and "erase this line".
TOKEN: Final = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|(\r?\n)|(\r)|([^\x1b\r\n]+)")


@dataclass
class Screen:
    """The lines of a terminal, with their colours as ANSI codes.

    Args:
        frames: (time, lines) each time that the screen was complete and about to be redrawn.
    """

    lines: list[str] = field(default_factory=lambda: [""])
    row: int = 0
    frames: list[tuple[float, list[str]]] = field(default_factory=list)

    def feed(self, output: str, now: float) -> None:
        """Apply a program's output.

        Args:
            output: whole escape sequences.
            now: seconds, for the frames.
        """
        for code, command, newline, carriage_return, text in TOKEN.findall(output):
            if newline:
                self.row += 1
                self.lines += [""] * (self.row + 1 - len(self.lines))
            elif carriage_return:
                self.frames.append((now, list(self.lines)))
            elif command == "A":
                self.row -= int(code or 1)
            elif command == "K":
                self.lines[self.row] = ""
            elif command == "m":
                self.lines[self.row] += f"\x1b[{code}m"
            else:
                self.lines[self.row] += text


def record(folder: Path) -> Screen:
    """Run the sweep in a pseudo-terminal; its runs and its log go to `folder`.

    Raises:
        SystemExit: the run failed.
    """
    terminal, inside = pty.openpty()
    ioctl(inside, TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    command = [sys.executable, "-m", "trainer_app", "tune", str(ROOT / RUN_FILE), DATA, "--test"]
    options = ["--name", "mnist-tune", "--storage", "runs", "--log", "mnist-tune.log"]
    env = {**os.environ, "TERM": "xterm-256color", "PYTHONPATH": str(ROOT)}
    process = Popen([*command, *options], cwd=folder, env=env, stdin=inside, stdout=inside, stderr=inside)
    os.close(inside)
    screen, rest = Screen(), b""
    while chunk := read(terminal):
        rest += chunk
        whole = rest.rfind(b"\n") + 1
        screen.feed(rest[:whole].decode(), time.monotonic())
        rest = rest[whole:]
    screen.feed(rest.decode(), time.monotonic())
    if code := process.wait():
        sys.exit(f"the run ended with exit code {code}:\n" + "\n".join(screen.lines))
    return screen


def read(terminal: int) -> bytes:
    """Return the next bytes; none once the program is gone."""
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux says EIO where others say end of file
        return b""


def picture(screen: Screen, folder: Path) -> str:
    """Return the SVG: the command, the frame at half of the run's time, and the lines that stay."""
    live = [(at, lines) for at, lines in screen.frames if any("running" in line for line in lines)]
    half = (live[0][0] + live[-1][0]) / 2
    middle = min(live, key=lambda frame: abs(frame[0] - half))[1]
    console = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True, color_system="truecolor")
    for line in [f"\x1b[1m$ {COMMAND}\x1b[0m", *middle, "", "\x1b[2m... and at the end:\x1b[0m", "", *screen.lines]:
        console.print(Text.from_ansi(line.replace(f"{folder}/", "")), overflow="ellipsis", no_wrap=True)
    svg = console.export_svg(title="trainer")
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)  # fonts from a server elsewhere


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        svg = picture(record(folder), folder)
    (ROOT / "docs/sweep.svg").write_text(svg, encoding="utf-8")
