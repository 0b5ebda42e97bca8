"""Runs the command in a process where Ray, torch and the like can't be imported, and nothing can be unpickled."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

SETUP = """
import pickle, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("ray", "torch", "lightning", "pytorch_lightning", "numpy", "pandas", "pyarrow"):
            raise ImportError(f"{name} is not installed here")

def refuse(*_, **__):
    raise SystemExit("something was unpickled")

def watch(event, args):
    if event == "pickle.find_class":
        refuse()
    if event == "open" and str(args[0]).endswith((".ckpt", ".pkl")):
        raise SystemExit(f"{args[0]} was opened")

sys.meta_path.insert(0, Refuse())
pickle.load = pickle.loads = pickle.Unpickler = refuse
sys.addaudithook(watch)
"""
RUN = """
from trainer_app.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def trainer(
    *arguments: str, env: Mapping[str, str] | None = None, cwd: str | None = None, code: str = RUN
) -> subprocess.CompletedProcess[str]:
    """`trainer ARGUMENTS` in such a process."""
    return subprocess.run(
        [sys.executable, "-c", SETUP + code, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **(env or {})},
    )
