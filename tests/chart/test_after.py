"""`trainer submit test|predict`: a RayJob about a run, of what the user submitted that run with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from tests.chart.conftest import Rendered, environment, pod_templates
from tests.unit.test_launch_trust import Cluster
from trainer_app.__main__ import main
from trainer_app.errors import InputError
from trainer_app.launch import kube as kube_module
from trainer_app.launch import submit, submitted
from trainer_app.launch.kube import Kube
from trainer_app.launch.remote_run import Launch, Submission

pytestmark = pytest.mark.chart
RUN_FILE = "model: {class_path: some.Model}\ndata: {class_path: some.Data}\nscaling: {num_workers: 2}\n"
OUT = ("-o", "s3://bucket/out.parquet")


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """A cluster that knows how alice submitted run demo."""
    cluster = Cluster({})
    launch = Launch("demo", "train", "team", "demo-1", "0", "0", code="a" * 64, image="mine:7", user="alice")
    storage = submitted.StorageSettings("s3://bucket/runs")
    values = {
        "storage": {"bucket": "bucket", "prefix": "runs"},
        "pools": {"cpu": {"replicas": 2}},
        "networkPolicy": {"anywhere": True},
    }
    submitted.write(cast(Kube, cluster), Submission(launch, RUN_FILE, values), storage)
    monkeypatch.setattr(kube_module, "connect", lambda *_: cluster)
    return cluster


def shown(capfd: pytest.CaptureFixture[str], *words: str) -> Any:
    """The RayJob that `trainer submit WORDS --dry-run` prints."""
    assert main(["submit", words[0], "--dry-run", *words[1:]]) == 0, capfd.readouterr().err
    objects = yaml.safe_load_all(capfd.readouterr().out)
    return next(one for one in objects if one and one["kind"] == "RayJob")


def test_the_job_has_the_runs_image_code_and_values(cluster: Cluster, capfd: pytest.CaptureFixture[str]) -> None:
    job = shown(capfd, "predict", "demo", "--", "--data", "s3://bucket/rows", "--columns", "a,b", *OUT)
    arguments = "demo --data s3://bucket/rows --columns a,b -o s3://bucket/out.parquet"
    assert job["spec"]["entrypoint"] == f"trainer predict {arguments} --log -"
    assert job["metadata"]["name"].startswith("predict-demo-")
    notes = job["metadata"]["annotations"]
    assert (notes["trainer/task"], notes["trainer/storage-uri"]) == ("predict", "s3://bucket/runs")
    pods = pod_templates(job)
    assert {pod["spec"]["containers"][0]["image"] for pod in pods.values()} == {"mine:7"}
    assert environment(pods["head"])["TRAINER_CODE"] == "a" * 64
    assert environment(pods["cpu"])["TRAINER_STORAGE_URI"] == "s3://bucket/runs"


def test_a_run_of_nobody_here_takes_a_file_and_values(
    cluster: Cluster, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "run.yaml").write_text(RUN_FILE)
    words = ("test", "other", str(tmp_path / "run.yaml"), "-f", "kind", "--image", "new:1", "--name", "tested")
    job = shown(capfd, *words, "--", "--allow", "some.Class")
    assert job["spec"]["entrypoint"] == "trainer test other --allow some.Class --log -"
    assert job["metadata"]["name"] == "tested"
    assert pod_templates(job)["head"]["spec"]["containers"][0]["image"] == "new:1"
    assert main(["submit", "test", "other", "--dry-run"]) == 2
    assert "no record that you submitted run other; give its run file" in capfd.readouterr().err


@pytest.mark.parametrize(
    "words, said",
    [
        (["predict", "demo"], "predict in a pod needs -o FILE"),
        (["predict", "demo", "--", "-o", "out.csv"], "--output out.csv: a pod has no files of this machine"),
        (["predict", "demo", "--", "--data", "rows.csv", *OUT], "--data rows.csv: a pod has no files"),
        (["predict", "demo", "--", *OUT, "--nope", "1"], "No such option: --nope"),
        (["predict", "demo", "--", "--columns", "a b", *OUT], "'a b' can't be an argument in a pod"),
        (["test", "demo", "--", "--allow", "$(reboot)"], "can't be an argument in a pod"),
        (["test", "--", "--json"], "no run: write trainer submit test RUN"),
        (["test", "--rehearse", "demo"], "--rehearse is for train and tune"),
    ],
)
def test_what_a_pod_can_not_do_is_said(
    cluster: Cluster, capfd: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert main(["submit", words[0], "--dry-run", *words[1:]]) == 2
    assert said in " ".join(capfd.readouterr().err.split())


@pytest.mark.parametrize("argument", ["a b", "$(x)", "a;b", "'", '"', "a\\b", "`x`", ""])
def test_the_chart_takes_no_argument_that_a_shell_reads(
    render: Callable[..., Rendered], argument: str, tmp_path: Path
) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump({"run": {"arguments": ["demo", argument]}}))
    with pytest.raises(InputError, match="letters, digits"):
        render(values=("kind", str(file)), task="test")


def test_it_is_created_without_a_claim_on_a_name_in_the_storage(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    created: list[Any] = []
    monkeypatch.setattr(submit, "check_admission", lambda *_: None)
    monkeypatch.setattr(submit, "check_secret", lambda *_: None)
    monkeypatch.setattr(submit, "create_objects", lambda _, objects: created.extend(objects))
    assert main(["submit", "test", "demo"]) == 0
    assert created[-1]["kind"] == "RayJob" and "submitted run test-demo-" in capfd.readouterr().err
