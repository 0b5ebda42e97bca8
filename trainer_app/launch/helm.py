"""`helm template` of the chart, the only source of a run's objects."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer_app.errors import InputError, TrainerError
from trainer_app.formatting import one_line
from trainer_app.launch.values_errors import explain

TIMEOUT_S = 60
MIN_VERSION = (3, 14)
_CHART_FIELD = re.compile(r'^(\w+): *"?([^"\n]*)"?$', re.MULTILINE)
_IMAGE = re.compile(r"(?P<repository>[^\s:@]+(:\d+/[^\s:@]+)?)(:(?P<tag>[\w.-]+))?(@(?P<digest>sha256:[0-9a-f]{64}))?")
_TEMPLATE_POSITION = re.compile(r"^execution error at \([^)]*\): ")


class StringValue(str):
    """KEY=VALUE of --set-string: Helm takes the value as a string, whatever it looks like."""


@dataclass(frozen=True)
class Release:
    """What the chart is rendered with.

    Args:
        name: the run's name, and that of its objects.
        run_file: the run file's text, byte for byte.
        submission: distinguishes a retry of this submission from another submission of the same name.
        values: values files, later ones over earlier ones: a path, or the name of one that comes with the chart (kind).
        sets: dotted values (`pools.cpu.replicas=2`), over the files; a StringValue for --set-string.
        image: repository:tag or repository@digest in place of the values'; "" for theirs.
        code: SHA-256 of the user's code archive in the run's storage, or "".
        user: who submits, by the cluster's name for them, or "".
        env: the environment variables of head and workers, over those of the values.
        arguments: of the verbs test and predict, which have no run file.
        plan: what the chart needs of the run file, from release.make_plan; empty: the chart reads the file itself.
    """

    name: str
    namespace: str
    task: str
    run_file: str
    submission: str
    values: Sequence[str] = ()
    sets: Sequence[str] = ()
    image: str = ""
    code: str = ""
    user: str = ""
    plan: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    arguments: Sequence[str] = ()

    def launcher_values(self) -> dict[str, dict[str, Any]]:
        """Return the chart's values that the launcher sets."""
        run = {"task": self.task, "submission": self.submission, "code": self.code, "user": self.user}
        values: dict[str, dict[str, Any]] = {"run": {key: value for key, value in run.items() if value}}
        if self.plan:
            values["run"]["plan"] = dict(self.plan)
        if self.env:
            values["run"]["env"] = dict(self.env)
        if self.arguments:
            values["run"]["arguments"] = list(self.arguments)
        if self.image:
            values["image"] = split_image(self.image)
        return values


def template(release: Release) -> str:
    """Return the objects as YAML.

    Raises:
        InputError: the chart refuses these values; the message is the chart's.
        TrainerError: helm is missing, or does not end in time.
    """
    own_values = release.launcher_values()
    with tempfile.TemporaryDirectory(prefix="trainer-") as folder:
        file, own = Path(folder, "run.yaml"), Path(folder, "own.json")
        file.write_bytes(release.run_file.encode())
        own.write_text(_to_yaml(own_values), encoding="utf-8")
        files = [*_value_options(release.values, ()), "--values", str(own), "--set-file", f"run.file={file}"]
        options = ["--namespace", release.namespace, "--skip-tests", *files, *_value_options((), release.sets)]
        return _run_helm("template", release.name, str(chart_folder("trainer")), *options)


def _to_yaml(values: Mapping[str, Any]) -> str:
    """Return JSON that is YAML too: no pairs of surrogates, and no control characters."""
    text = json.dumps(values, ensure_ascii=False)
    return re.sub(r"[\x7f-\x9f\ufffe\uffff]", lambda found: f"\\u{ord(found[0]):04x}", text)


def merged_values(values: Sequence[str], sets: Sequence[str]) -> dict[str, Any]:
    """Return the user's values files and --set in one mapping, without the chart's defaults.

    Helm merges them, in a chart whose only object is its values, so that `null` and --set mean what they mean to it.
    """
    with tempfile.TemporaryDirectory(prefix="trainer-") as folder:
        chart = Path(folder, "values")
        (chart / "templates").mkdir(parents=True)
        (chart / "Chart.yaml").write_text("apiVersion: v2\nname: values\nversion: 0.0.1\n")
        (chart / "templates" / "values.yaml").write_text("{{ .Values | toJson }}\n")
        text = _run_helm("template", "values", str(chart), *_value_options(values, sets))
    return json.loads(next(line for line in text.splitlines() if line.startswith("{")))


def chart_versions() -> tuple[str, str]:
    """Return (the chart's version, its appVersion)."""
    fields = dict(_CHART_FIELD.findall(Path(chart_folder("trainer"), "Chart.yaml").read_text()))
    return fields["version"], fields["appVersion"]


def helm_version() -> str:
    """Return the version of the helm on PATH.

    Raises:
        TrainerError: there is none, or the chart needs a newer one.
    """
    version = _run_helm("version", "--template", "{{.Version}}").strip()
    number = re.match(r"v?(\d+)\.(\d+)", version)
    if number and (int(number[1]), int(number[2])) < MIN_VERSION:
        needed = ".".join(map(str, MIN_VERSION))
        raise TrainerError(f"helm {version} is older than {needed}, which the chart needs; install a newer one")
    return version


def _value_options(values: Sequence[str], sets: Sequence[str]) -> list[str]:
    files = [option for name in values for option in ("--values", str(find_values_file(name)))]
    flags = ("--set-string" if isinstance(assignment, StringValue) else "--set" for assignment in sets)
    return files + [option for pair in zip(flags, sets, strict=True) for option in pair]


def split_image(image: str) -> dict[str, str]:
    """Return the chart's values of an image: repository and tag, or repository and digest.

    Raises:
        InputError: it has neither: `latest` would be another image tomorrow.
    """
    parts = _IMAGE.fullmatch(image)
    if parts is None or not (parts["tag"] or parts["digest"]):
        raise InputError(f"image {image!r} has no tag; give repository:tag or repository@sha256:digest")
    return {"repository": parts["repository"], "digest": ""} | {
        key: value for key, value in parts.groupdict().items() if value
    }


def find_values_file(name: str) -> Path:
    """Return a values file by its path, or by the name of one that comes with the chart.

    Raises:
        InputError: there is no such file; the message lists the names.
    """
    if Path(name).is_file():
        return Path(name)
    folder = chart_folder("values")
    if (path := folder / f"{name}.yaml").is_file():
        return path
    names = ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))
    raise InputError(f"there is no values file {name}; give a path, or one of those that come with the chart: {names}")


def chart_folder(part: str) -> Path:
    """Return the folder of the chart (`trainer`) or its values files (`values`) in the wheel, else in the checkout.

    Raises:
        TrainerError: this installation has none.
    """
    package = Path(__file__).parent.parent
    for folder in (package / "helm" / part, package.parent / "helm" / part):
        if folder.is_dir():
            return folder
    raise TrainerError(f"the chart is missing from this installation: no {package / 'helm' / part}; install it again")


def _run_helm(*arguments: str) -> str:
    helm = shutil.which("helm")
    if helm is None:
        raise TrainerError("helm is not on PATH; install Helm 3.14 or newer")
    try:
        done = subprocess.run([helm, *arguments], capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise TrainerError(f"helm {arguments[0]} did not end within {TIMEOUT_S} s") from error
    if done.returncode:
        raise InputError(format_error(done.stderr))
    return done.stdout


def format_error(stderr: str) -> str:
    """Return helm's error in one line, without its position in our templates, and refused values in sentences."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    first = next((number for number, line in enumerate(lines) if line.startswith("Error: ")), 0)
    kept = [line for line in lines[first:] if not line.startswith("Use --debug flag")]
    text = one_line(explain("\n".join(kept), chart_folder("trainer") / "values.schema.json")).removeprefix("Error: ")
    return _TEMPLATE_POSITION.sub("", text) or "helm failed without a message"
