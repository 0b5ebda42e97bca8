"""Check the image from inside: its imports, its versions, and that its Ray is the chart's.

docker run --rm --read-only --tmpfs /tmp IMAGE python /opt/smoke.py
"""

import importlib
import os
import re
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

NEEDED = (
    "ray",
    "ray.train",
    "ray.tune",
    "ray.dashboard",
    "torch",
    "torchvision",
    "lightning",
    "torchmetrics",
    "optuna",
    "sklearn",
    "boto3",
    "kubernetes",
    "trainer_app.training.driver",
    "trainer_app.tuning",
    "trainer_app.examples.mnist",
    # what the chart's pods run
    "trainer_app.pod.submitter",
    "trainer_app.pod.run_file",
    "trainer_app.pod.chart_check",
    "trainer_app.pod.probe",
)
SHOWN = ("trainer-app", "ray", "torch", "lightning", "torchvision", "torchmetrics")


def chart_app_version() -> str:
    """Return the appVersion of the chart in the package."""
    import trainer_app

    chart = Path(trainer_app.__file__).parent / "helm" / "trainer" / "Chart.yaml"
    match = re.search(r'^appVersion:\s*"?([^"\s]+)', chart.read_text(), re.MULTILINE)
    return match[1] if match else f"none in {chart}"


def problems() -> list[str]:
    """Return what is wrong with this image, one line each."""
    lines = []
    for module in NEEDED:
        try:
            importlib.import_module(module)
        except ImportError as error:
            lines.append(f"can't import {module}: {error}")
    if version("ray") != chart_app_version():
        lines.append(f"ray is {version('ray')}, the chart's appVersion {chart_app_version()}")
    if os.geteuid() == 0:
        lines.append("runs as root")
    try:
        tempfile.TemporaryFile().close()
    except OSError as error:
        lines.append(f"/tmp is not writable: {error}")
    return lines


if __name__ == "__main__":
    wrong = problems()
    for line in wrong:
        print(f"error: {line}", file=sys.stderr)
    print(" ".join(f"{name}={version(name)}" for name in SHOWN), f"python={sys.version.split()[0]}")
    sys.exit(1 if wrong else 0)
