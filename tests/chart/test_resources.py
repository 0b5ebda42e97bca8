"""What a worker, a trial and a nested trial need: the chart counts as the run file's own properties do."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.tree import ROOT
from trainer_app.config import loads
from trainer_app.launch.release import make_plan

pytestmark = pytest.mark.chart

# Beside the chart's own templates: its numbers, and nothing else.
PROBE = """
needs: {{ (include "trainer.plan" . | fromJson).resources | toJson }}
"""
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
    (copy / "templates/probe.yaml").write_text(PROBE)
    return copy


def charts_needs(chart: Path, run_file: str, task: str) -> Any:
    file = chart.parent / "run.yaml"
    file.write_text(run_file)
    # on a cluster that is there: none of this has to fit the pools of the values
    sets = [f"run.task={task}", "clusterSelector=big", "storage.bucket=bucket", "run.submission=demo-1"]
    command = ["helm", "template", "demo", str(chart), "--show-only", "templates/probe.yaml"]
    command += ["--set-file", f"run.file={file}", *(part for one in sets for part in ("--set", one))]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return yaml.safe_load(done.stdout)["needs"]


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
    assert one == expected == charts_needs(chart, MODEL + text, task)
    assert make_plan(config, task)["resources"] == one
