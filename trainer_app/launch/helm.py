"""`helm template` of the chart: the only source of the objects that a run needs."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer_app.errors import InputError, TrainerError

TIMEOUT_S = 60
_WHERE = re.compile(r"^execution error at \([^)]*\): ")


@dataclass(frozen=True)
class Release:
    """What the chart is rendered with.

    Args:
        name: the run's name, and that of its objects.
        run_file: the run file's text, byte for byte.
        submission: what tells a retry of this submission from another one of the same name.
        values: values files, later ones over earlier ones: a path, or the name of one that comes with the chart (kind).
        sets: dotted values (`pools.cpu.replicas=2`), over the files.
    """

    name: str
    namespace: str
    task: str
    run_file: str
    submission: str
    values: Sequence[str] = ()
    sets: Sequence[str] = ()


def template(release: Release) -> str:
    """The objects as YAML.

    Raises:
        InputError: the chart refuses these values, in the chart's words. TrainerError: there is no helm.
    """
    with tempfile.TemporaryDirectory(prefix="trainer-") as folder:
        file = Path(folder, "run.yaml")
        file.write_bytes(release.run_file.encode())
        return _helm(
            "template",
            release.name,
            str(folder_of("trainer")),
            "--namespace",
            release.namespace,
            "--skip-tests",
            *(word for values in release.values for word in ("--values", str(values_file(values)))),
            "--set-file",
            f"run.file={file}",
            "--set",
            f"run.task={release.task},run.submission={release.submission}",
            *(word for one in release.sets for word in ("--set", one)),
        )


def values_file(given: str) -> Path:
    """A values file by its path, or by the name of one that comes with the chart.

    Raises:
        InputError: neither; the names are listed.
    """
    if Path(given).is_file():
        return Path(given)
    ready = folder_of("values")
    if (named := ready / f"{given}.yaml").is_file():
        return named
    names = ", ".join(sorted(path.stem for path in ready.glob("*.yaml")))
    raise InputError(f"there is no values file {given}; give a path, or one of those that come with the chart: {names}")


def folder_of(part: str) -> Path:
    """The chart (`trainer`) or the ready values (`values`): of the wheel, else of the checkout."""
    package = Path(__file__).parent.parent
    for folder in (package / "helm" / part, package.parent / "helm" / part):
        if folder.is_dir():
            return folder
    raise TrainerError(f"the chart is missing from this installation: no {package / 'helm' / part}; install it again")


def _helm(*words: str) -> str:
    helm = shutil.which("helm")
    if helm is None:
        raise TrainerError("helm is not on PATH; install Helm 3.14 or newer")
    try:
        done = subprocess.run([helm, *words], capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise TrainerError(f"helm {words[0]} did not answer within {TIMEOUT_S} s") from error
    if done.returncode:
        raise InputError(reason(done.stderr))
    return done.stdout


def reason(stderr: str) -> str:
    """Helm's error in one line, without the place in our templates."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    first = next((number for number, line in enumerate(lines) if line.startswith("Error: ")), 0)
    words = [line for line in lines[first:] if not line.startswith("Use --debug flag")]
    text = " ".join(words).removeprefix("Error: ")
    return _WHERE.sub("", text) or "helm failed and said nothing"
