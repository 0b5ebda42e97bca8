"""NOTES.txt: the next commands, by kind. `helm install` alone prints it, and wants a cluster for that."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from trainer_app.cli.app import VERBS
from trainer_app.launch import helm

pytestmark = pytest.mark.chart
WRAPPED = 'kind: Notes\nmetadata: {name: notes}\ntext: {{ tpl (.Files.Get "NOTES.txt") . | toJson }}\n'


def notes(tmp_path: Path, *sets: str, run_file: str = "name: demo") -> str:
    """The text, through the real helm: the chart with its notes made into an object."""
    chart = tmp_path / "trainer"
    shutil.copytree(helm.chart_folder("trainer"), chart)
    (chart / "templates/NOTES.txt").rename(chart / "NOTES.txt")
    (chart / "templates/notes.yaml").write_text(WRAPPED)
    words = [word for one in sets for word in ("--set", one)]
    values = ("--values", str(helm.find_values_file("kind")), "--set-json", f"run.file={json.dumps(run_file)}")
    made = helm._run_helm("template", "demo", str(chart), "-n", "trainer", *values, *words)
    return str(next(one["text"] for one in yaml.safe_load_all(made) if one and one["kind"] == "Notes"))


@pytest.mark.parametrize(
    "sets, run_file, wanted",
    [
        ((), "name: demo", ["trainer status demo -n trainer", "helm test demo -n trainer", "s3://trainer/runs"]),
        (("lifetime.suspend=true",), "name: demo", ["It is suspended"]),
        (("kind=RayCluster",), "", ["clusterSelector=demo", "service/demo-head 8265", "get secret demo -n trainer"]),
        (("kind=RayCronJob", "cron.schedule=@daily"), "name: demo", ["ray.io/cronjob-name=demo", '"suspend": true']),
        (("storage.bucket=", "storage.claim.existing=c"), "name: demo", ["/mnt/storage/runs"]),
        (
            ("storage.bucket=", "storage.claim.existing=c", "storage.claim.accessModes={ReadWriteOnce}"),
            "name: demo",
            ["all pods must be on one node"],
        ),
    ],
)
def test_next_commands(tmp_path: Path, sets: tuple[str, ...], run_file: str, wanted: list[str]) -> None:
    text = notes(tmp_path, *sets, run_file=run_file)
    assert [words for words in [*wanted, "helm uninstall demo -n trainer"] if words not in text] == []
    assert set(re.findall(r"^.*:\s+trainer (\w+)", text, re.MULTILINE)) <= set(VERBS)
