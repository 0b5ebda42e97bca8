"""What a worker, a trial and a nested trial need: the chart counts as the run file's own properties do."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.tree import ROOT
from trainer_app.config import loads
from trainer_app.errors import InputError
from trainer_app.launch import helm
from trainer_app.launch.release import make_plan

pytestmark = pytest.mark.chart

# Beside the chart's own templates: its numbers, and nothing else.
PROBE = """
amounts:
  %s
sizes:
  %s
needs: {{ (include "trainer.plan" . | fromJson).resources | toJson }}
"""
# Each form of a Kubernetes quantity, as text in Go and in YAML, as a number.
QUANTITIES: dict[str, float] = {
    '"2"': 2,
    '"+1.5"': 1.5,
    '"1."': 1,
    '".5"': 0.5,
    '"500m"': 0.5,
    '"100u"': 1e-4,
    '"5n"': 5e-9,
    '"1e9"': 1e9,
    '"1E3"': 1e3,
    '"12e-1"': 1.2,
    '"5k"': 5e3,
    '"5M"': 5e6,
    '"5G"': 5e9,
    '"5T"': 5e12,
    '"5P"': 5e15,
    '"1E"': 1e18,
    '"3Ki"': 3 * 2**10,
    '"3Mi"': 3 * 2**20,
    '"1.5Gi"': 1.5 * 2**30,
    '"3Ti"': 3 * 2**40,
    '"1Pi"': 2**50,
    '"1Ei"': 2**60,
    "8589934592.0": 2**33,
    "8589934592": 2**33,
    "0.1": 0.1,
    "0": 0,
}
SIZES = {
    "8589934592.0": "8Gi",
    "1073741824": "1Gi",
    "1536": "1536",
    "1572864": "1536Ki",
    "0": "0",
    "0.5": "1",
    "1.5": "2",
    '"1e9"': "1e9",
}
MODEL = "model: {class_path: a.B, init_args: {lr: 1}}\n"
TUNE = "metric: m, mode: max, space: {model.init_args.lr: {choice: [1]}}"
ONE: dict[str, dict[str, Any]] = {
    "scaling: {use_gpu: false}": {"CPU": 1},
    "scaling: {use_gpu: auto}": {"CPU": 1},
    "scaling: {use_gpu: true}": {"CPU": 1, "GPU": 1},
    "scaling: {num_workers: 3}": {"CPU": 1},
    "scaling: {use_gpu: true, resources_per_worker: {CPU: 4}}": {"CPU": 4, "GPU": 1},
    "scaling: {use_gpu: true, resources_per_worker: {GPU: 0.5}}": {"CPU": 1, "GPU": 0.5},
    "scaling: {resources_per_worker: {CPU: 0, memory: 4294967296, disk: 0.5}}": {
        "CPU": 0,
        "memory": 2**32,
        "disk": 0.5,
    },
    "scaling: {num_workers: 2, use_gpu: true, resources_per_worker: {CPU: 2}}": {"CPU": 2, "GPU": 1},
}
TRIAL: dict[str, dict[str, Any]] = {
    f"tune: {{{TUNE}}}": {"CPU": 1},
    f"scaling: {{resources_per_worker: {{CPU: 3}}}}\ntune: {{{TUNE}}}": {"CPU": 3},
    f"tune: {{{TUNE}, resources_per_trial: {{}}}}": {"CPU": 1},
    f"tune: {{{TUNE}, resources_per_trial: {{CPU: 2}}}}": {"CPU": 2},
    f"scaling: {{use_gpu: true, num_workers: 1}}\ntune: {{{TUNE}, resources_per_trial: {{GPU: 0.5}}}}": {
        "CPU": 1,
        "GPU": 0.5,
    },
    f"scaling: {{num_workers: 2, use_gpu: true}}\ntune: {{{TUNE}}}": {"CPU": 1, "GPU": 1},
}


@pytest.fixture(scope="module")
def chart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("chart") / "trainer"
    shutil.copytree(ROOT / "helm/trainer", copy)
    amounts = "\n  ".join(f'- {{{{ include "trainer.amount" {one} }}}}' for one in QUANTITIES)
    sizes = "\n  ".join(f'- {{{{ include "trainer.size" {one} | quote }}}}' for one in SIZES)
    (copy / "templates/probe.yaml").write_text(PROBE % (amounts, sizes))
    return copy


def probe(chart: Path, run_file: str, task: str) -> Any:
    file = chart.parent / "run.yaml"
    file.write_text(run_file)
    # on a cluster that is there: none of this has to fit the pools of the values
    sets = [f"run.task={task}", "clusterSelector=big", "storage.bucket=bucket"]
    sets += ["run.submission=demo-1", "networkPolicy.anywhere=true"]
    command = ["helm", "template", "demo", str(chart), "--show-only", "templates/probe.yaml"]
    command += ["--set-file", f"run.file={file}", *(part for one in sets for part in ("--set", one))]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return yaml.safe_load(done.stdout)


def test_quantities(chart: Path) -> None:
    made = probe(chart, MODEL, "train")
    assert made["amounts"] == [pytest.approx(value, rel=1e-12) for value in QUANTITIES.values()]
    assert made["sizes"] == [*SIZES.values()]


GROUP = {"resources": {"limits": {"cpu": 1, "memory": "8Gi", "ephemeral-storage": "4Gi"}}}
NUMBERS = {"resources": {"limits": {"cpu": 1, "memory": 2**33, "ephemeral-storage": 2**32}}}


def test_a_number_of_bytes_is_that_size(tmp_path: Path) -> None:
    """Everywhere; and the pools hold the workers that they hold by the same size as text."""
    texts, numbers = (
        {
            "poolDefaults": {**group, "shmSize": size, "replicas": 2},
            "head": {**group, "shmSize": size},
            "autoscaling": {"enabled": True, **group},
            "submitter": group,
            "storage": {"bucket": "", "claim": {"size": size}},
        }
        for group, size in ((GROUP, "1Gi"), (NUMBERS, 2**30))
    )
    made = []
    for values in (texts, numbers):
        file = tmp_path / "values.yaml"
        file.write_text(yaml.safe_dump(values))
        run_file = "scaling: {num_workers: 2, resources_per_worker: {memory: 8589934592}}"
        made.append(helm.template(helm.Release("demo", "team", "train", run_file, "demo-1", (str(file),))))
    assert made[0] == made[1] and made[0].count("memory: 8Gi") == 4


def test_numbers_in_messages_are_sizes(tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    values = {"storage": {"bucket": "bucket"}, "networkPolicy": {"anywhere": True}}
    file.write_text(yaml.safe_dump(values | {"poolDefaults": {**NUMBERS, "shmSize": 2**34}}))
    with pytest.raises(InputError, match=r"shmSize \(16Gi\) is greater than its memory limit \(8Gi\)"):
        helm.template(helm.Release("demo", "team", "train", "name: demo", "demo-1", (str(file),)))


@pytest.mark.parametrize("text", [*ONE, *TRIAL])
def test_a_worker_or_trial_needs_what_the_chart_checks(chart: Path, text: str) -> None:
    config = loads(MODEL + text)
    task, expected = ("train", ONE[text]) if text in ONE else ("tune", TRIAL[text])
    workers = config.scaling.num_workers
    assert config.has_nested_trials == (workers > 1)
    one = config.scaling.worker_resources
    if task == "tune":
        assert config.trial_resources == {name: each * workers for name, each in expected.items()}
        one = one if config.has_nested_trials else config.trial_resources
    assert one == expected == probe(chart, MODEL + text, task)["needs"]
    assert make_plan(config, task)["resources"] == one
