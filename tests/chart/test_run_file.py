"""The run file has one reader: what the launcher reads, in YAML 1.2, is what the chart counts with."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.chart.conftest import Rendered
from trainer_app.errors import InputError
from trainer_app.launch import helm, resubmit
from trainer_app.launch.manifests import load_objects
from trainer_app.launch.release import new_release
from trainer_app.launch.remote_run import Launch
from trainer_app.run.request import RunRequest

pytestmark = pytest.mark.chart
Render = Callable[..., Rendered]
PARTS = "model: {class_path: some.Model}\ndata: {class_path: some.Data}\n"
# Each is an error, or another value, to Helm's YAML 1.1.
ODD = {
    "inf": "model: {class_path: some.Model, init_args: {top: .inf, low: -.inf, odd: .nan}}\n",
    "a question mark in a flow": "storage: {uri: s3://bucket/runs?endpoint_override=http://minio:9000}\n",
    "words": "model: {class_path: some.Model, init_args: {y: yes, n: no, on: off}}\n",
    "a line end of Windows": "model:\r\n  class_path: some.Model\r\n",
}


@pytest.fixture
def launched(tmp_path: Path) -> Callable[..., Any]:
    """`launched(text, *overrides)`: the objects by kind that `trainer render` prints."""
    file = tmp_path / "run.yaml"

    def render(text: str, *overrides: str, task: str = "train", sets: tuple[str, ...] = ()) -> Any:
        file.write_bytes(text.encode())
        release = new_release(RunRequest(task, [str(file), *overrides], "demo"), ["kind"], sets, "team")
        return {one["kind"]: one for one in load_objects(helm.template(release))}

    return render


@pytest.mark.parametrize("overrides", [[], ["trainer.max_epochs=1"]], ids=["as it is", "overridden"])
@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
def test_what_the_launcher_reads_is_rendered(launched: Callable[..., Any], text: str, overrides: list[str]) -> None:
    text = text if "model" in text else PARTS + text
    data = launched(text, *overrides)["ConfigMap"]["data"]["run.yaml"]
    assert overrides or data == text


def test_storage_of_the_run_file_is_the_launchers_reading(launched: Callable[..., Any]) -> None:
    uri = "s3://bucket/runs?endpoint_override=http://minio:9000"
    made = launched(f"{PARTS}storage: {{uri: '{uri}'}}\n", "trainer.max_epochs=1", sets=("storage.bucket=",))
    assert made["RayJob"]["metadata"]["annotations"]["trainer/storage-uri"] == uri


@pytest.mark.parametrize(
    "text, task, words",
    [
        ("scaling: {num_workers: 010}", "train", "asks for 10 CPUs at once"),
        ("scaling: {<<: {num_workers: 9}}", "train", "asks for 9 CPUs at once"),
        ("scaling: {resources_per_worker: {CPU: 010}}", "train", r"scaling: 1 workers of 10\)"),
        ("scaling: {resources_per_worker: {CPU: 1e1}}", "train", r"scaling: 1 workers of 10\)"),
        (
            "tune: {metric: m, mode: max, space: {model.init_args.a: {choice: [1]}}, resources_per_trial: {CPU: 011}}",
            "tune",
            "1 workers of 11",
        ),
        ("trainer: {devices: 4, num_nodes: 2}", "train", "asks for 8 CPUs at once"),
    ],
)
def test_numbers_are_the_launchers(launched: Callable[..., Any], text: str, task: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        launched(f"{PARTS.replace('some.Model}', 'some.Model, init_args: {a: 1}}')}{text}\n", task=task)


def test_more_memory_than_an_integer_counts_is_enough(launched: Callable[..., Any]) -> None:
    """Its pools were said to hold -18446744074 workers."""
    sets = ("pools.cpu.resources.limits.memory=1e30", "pools.cpu.resources.limits.cpu=1e30", "pools.cpu.shmSize=")
    launched(f"{PARTS}scaling: {{resources_per_worker: {{memory: 1e9}}}}\n", sets=sets)


def test_a_name_that_is_made_fits_its_kind(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(f"{PARTS}name: {'n' * 31}\n")
    cron = ["kind=RayCronJob", "cron.schedule=@daily"]
    for sets, most in (([], 44), (cron, 35)):
        release = new_release(RunRequest("train", [str(tmp_path / "run.yaml")]), ["kind"], sets, "team")
        assert len(release.name) == most
        helm.template(release)


def test_a_run_that_is_created_again_is_read_likewise() -> None:
    kube, text = SimpleNamespace(namespace="team", user=lambda: ""), f"{PARTS}scaling: {{num_workers: 010}}\n"
    launch = Launch("demo", "train", "team", "demo-1", "0", "0")
    sets = ["storage.bucket=bucket", "networkPolicy.anywhere=true", "pools.cpu.replicas=9"]
    with pytest.raises(InputError, match="asks for 10 CPUs at once"):
        resubmit._render(kube, launch, text, {}, [], sets)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "run_file, words",
    [
        ("scaling: {num_workers: 010}", "has 010, which is 8 to Helm and another number in YAML 1.2"),
        ("scaling:\n  resources_per_worker:\n    CPU: 0_11\n", "has 0_11, which is 9 to Helm"),
        ("tune: {max_concurrent_trials: 012}", "has 012, which is 10 to Helm"),
        ("scaling: {use_gpu: yes}", "use_gpu that is a string in YAML 1.2 and true to Helm: write true or false"),
        ("scaling:\n  use_gpu: Off  # none\n", "a string in YAML 1.2 and false to Helm"),
        ("model: {top: .inf}", "not valid YAML to Helm, which reads YAML 1.1: .*; trainer render and trainer submit"),
        ("scaling: {num_workers: 5, <<: {num_workers: 3}}", "has a merge key .* the driver keeps: write them out"),
        ("common: &c {num_workers: 3}\nscaling:\n  <<: *c\n", "has a merge key"),
        ("storage: {uri: 010}", "has a storage.uri that is no string to Helm: 8"),
        ("scaling: 3", "has a scaling that is no mapping: 3"),
        ("scaling: {resources_per_worker: [1]}", r"has a scaling.resources_per_worker that is no mapping: \[1\]"),
        ("tune: {resources_per_trial: 2}", "has a tune.resources_per_trial that is no mapping: 2"),
        ("trainer: {devices: 4}", "has trainer.devices: 4, from which the driver makes scaling.num_workers: set that"),
        ("trainer: {accelerator: gpu}", 'has trainer.accelerator: "gpu", from which the driver makes scaling.use_gpu'),
        ("fit: {trainer: {num_nodes: 2}}", "has trainer.num_nodes: 2"),
        # the same to both, or nothing that the chart reads
        ("scaling: {num_workers: 01, resources_per_worker: {CPU: 0.5}}\nmodel: {code: 010, on: yes}", ""),
        ("scaling: {use_gpu: false}\nmodel: {use_gpu: yes}", ""),
        ("trainer: {devices: auto, num_nodes: 1, accelerator: cpu}\nname: 'use << EOF: x'", ""),
        ("trainer: {devices: 2, accelerator: gpu}\nscaling: {num_workers: 2, use_gpu: false}\nfit: true", ""),
    ],
)
def test_without_the_launcher_the_chart_refuses_what_it_reads_differently(
    render: Render, run_file: str, words: str
) -> None:
    if words:
        with pytest.raises(InputError, match=words):
            render(run_file=run_file)
    else:
        assert render(run_file=run_file)["ConfigMap/demo-run"]["data"]["run.yaml"] == run_file
