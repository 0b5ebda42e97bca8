"""Run inside the image: what it must import, the versions of its environment, and Ray's against the chart's.

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
    "trainer_app.train.driver",
    "trainer_app.tune",
    "trainer_app.examples.mnist",
    # what the chart's pods run
    "trainer_app.pod.submitter",
    "trainer_app.pod.run_file",
    "trainer_app.pod.chart_check",
    "trainer_app.pod.probe",
)
SHOWN = ("trainer-app", "ray", "torch", "lightning", "torchvision", "torchmetrics")


def chart_app_version() -> str:
    """Of the chart that the package carries, as `helm` reads it."""
    import trainer_app

    chart = Path(trainer_app.__file__).parent / "helm" / "trainer" / "Chart.yaml"
    found = re.search(r'^appVersion:\s*"?([^"\s]+)', chart.read_text(), re.MULTILINE)
    return found[1] if found else f"none in {chart}"


def problems() -> list[str]:
    """What is wrong with this image, a line each."""
    found = []
    for module in NEEDED:
        try:
            importlib.import_module(module)
        except ImportError as error:
            found.append(f"can't import {module}: {error}")
    if version("ray") != chart_app_version():
        found.append(f"ray is {version('ray')}, the chart's appVersion {chart_app_version()}")
    if os.geteuid() == 0:
        found.append("runs as root")
    try:
        tempfile.TemporaryFile().close()
    except OSError as error:
        found.append(f"/tmp is not writable: {error}")
    return found


if __name__ == "__main__":
    wrong = problems()
    for line in wrong:
        print(f"error: {line}", file=sys.stderr)
    print(" ".join(f"{name}={version(name)}" for name in SHOWN), f"python={sys.version.split()[0]}")
    sys.exit(1 if wrong else 0)
