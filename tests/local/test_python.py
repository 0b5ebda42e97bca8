"""The notebook of docs/, run as it stands: a real run from Python."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.local.commands import ROOT, Place

pytestmark = [pytest.mark.local, pytest.mark.timeout(600)]

# A notebook shows the value of a cell's last line: here it is printed.
CELLS = """
import ast, json, sys
scope = {}
for text in json.load(sys.stdin):
    tree = ast.parse(text)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), scope)
    if last:
        print(repr(eval(compile(ast.Expression(last.value), "cell", "eval"), scope)))
assert "ray" not in sys.modules
"""


def test_the_notebook(tmp_path: Path) -> None:
    cells = json.loads((ROOT / "docs/python.ipynb").read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    command = [sys.executable, "-c", CELLS]
    with Place() as place:
        ran = subprocess.run(
            command, input=json.dumps(code), cwd=tmp_path, env=place.env, capture_output=True, text=True
        )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "epoch 2/2" in ran.stdout and "val_accuracy" in ran.stdout
    assert "torch.Size([1, 10])" in ran.stdout and ran.stdout.rstrip().endswith("'succeeded'")
