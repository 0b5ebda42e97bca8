"""k8s/rendered is what the chart renders now."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.chart
ROOT = Path(__file__).parents[2]


def test_rendered_manifests_are_the_charts(tmp_path: Path) -> None:
    kept = {path: path.read_text() for path in (ROOT / "k8s/rendered").glob("*.yaml")}
    assert len(kept) == 2
    for path, text in kept.items():
        task = path.stem.removeprefix("rayjob-")
        words = (
            f"render {task} trainer_app/examples/mnist/{task}.yaml data.init_args.source=digits --values kind "
            f"--namespace trainer --name rendered-{task} --set run.submission=rendered-{task}"
        )
        done = subprocess.run(
            [sys.executable, "-m", "trainer_app", *shlex.split(words)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.stdout == text, f"{path} differs from the chart: make manifests; {done.stderr}"
