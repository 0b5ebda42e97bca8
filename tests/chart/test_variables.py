"""`--env`: variables of the command line in the pods of a run, in every kind of object."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.chart.conftest import RUN_FILE, Rendered, environment, pod_templates
from trainer_app.cli.render import render as render_command
from trainer_app.errors import InputError
from trainer_app.launch import helm, resubmit
from trainer_app.launch.manifests import load_objects
from trainer_app.launch.remote_run import Launch
from trainer_app.launch.submit import make_launch
from trainer_app.redact import remove_secrets

pytestmark = pytest.mark.chart
CRON = ("kind=RayCronJob", "cron.schedule=@daily")


def rendered(env: dict[str, str], *sets: str, run_file: str = RUN_FILE) -> Rendered:
    release = helm.Release("demo", "trainer", "train", run_file, "demo-1", ("kind",), sets, env=env)
    return {one["kind"]: one for one in load_objects(helm.template(release))}


@pytest.mark.parametrize("sets, kind", [((), "RayJob"), (CRON, "RayCronJob")])
def test_the_variables_are_in_head_and_workers(sets: tuple[str, ...], kind: str) -> None:
    env = {"APP_TRAINER__MAX_EPOCHS": "3", "APP_TEXT": 'a "b" $(HOME) $$\nc', "OFF": "off", "EMPTY": ""}
    pods = pod_templates(rendered(env, *sets)[kind])
    for role in ("head", "cpu"):
        found = environment(pods[role])
        # Kubernetes makes $ of $$, and replaces $(NAME)
        assert {name: found[name].replace("$$", "$") for name in env} == env
        assert "$$(HOME) $$$$" in found["APP_TEXT"]
    assert not set(env) & set(environment(pods["submitter"]))


def test_the_command_line_is_over_the_values() -> None:
    pools = ("pools.cpu.env[0].name=A", "pools.cpu.env[0].value=values", "pools.cpu.env[1].name=B")
    pod = pod_templates(rendered({"A": "line"}, *pools)["RayJob"])["cpu"]
    env = pod["spec"]["containers"][0]["env"]
    assert [one for one in env if one["name"] in "AB"] == [{"name": "A", "value": "line"}, {"name": "B"}]


def test_caches_of_libraries_are_where_a_pod_may_write() -> None:
    pods = pod_templates(rendered({"HF_HOME": "/data/hf"}, "pools.cpu.env[0].name=TORCH_HOME")["RayJob"])
    head, worker = environment(pods["head"]), pods["cpu"]["spec"]["containers"][0]["env"]
    names = [one["name"] for one in worker]
    assert head["HF_HOME"] == "/data/hf" and names.count("TORCH_HOME") == names.count("HF_HOME") == 1
    for name in ("HOME", "XDG_CACHE_HOME", "TORCH_HOME", "MPLCONFIGDIR"):
        assert f"{head[name]}/".startswith("/tmp/"), name


def test_on_the_cluster_of_another_release_the_job_has_them() -> None:
    spec = rendered({"A": "$(x)"}, "clusterSelector=big")["RayJob"]["spec"]
    submitter = environment({"spec": spec["submitterPodTemplate"]["spec"]})["TRAINER_RUNTIME_ENV"]
    assert json.loads(submitter.replace("$$", "$"))["env_vars"]["A"] == "$(x)"
    assert json.loads(spec["runtimeEnvYAML"])["env_vars"]["A"] == "$(x)"


@pytest.mark.parametrize(
    "env, sets, words",
    [
        ({"TRAINER_RUN": "x"}, (), r"run.env \(--env\) sets TRAINER_RUN, which is reserved"),
        ({"HF_TOKEN": "x"}, (), r"run.env \(--env\) has a value for HF_TOKEN; take it from a Secret"),
        ({"HF_TOKEN": "x"}, ("clusterSelector=big",), "has a value for HF_TOKEN"),
        ({"DB": "postgres://u:p@host/db"}, (), r"run.env \(--env\) has a URI with a user or password for DB; take it"),
        ({}, ("head.env[0].name=DB", "head.env[0].value=redis://:p@h"), "head.env has a URI with a user or password"),
        ({"LD_PRELOAD": "x"}, (), r"run.env \(--env\) sets LD_PRELOAD, which decides what code the pod runs"),
        ({}, ("head.env[0].name=PYTHONPATH",), r"head.env sets PYTHONPATH, which decides what code"),
        ({}, ("poolDefaults.env[0].name=LD_LIBRARY_PATH",), r"pools.cpu.env sets LD_LIBRARY_PATH"),
        ({"BASH_FUNC_ls": "x"}, (), "sets BASH_FUNC_ls, which decides what code"),
        ({"RAY_RUNTIME_ENV_HOOK": "x"}, (), "sets RAY_RUNTIME_ENV_HOOK, which decides what code"),
        ({"OPENSSL_CONF": "x"}, (), "sets OPENSSL_CONF, which decides what code"),
        ({"RAY_JOB_SUBMISSION_ID": "x"}, (), "sets RAY_JOB_SUBMISSION_ID, which is reserved"),
        ({"AWS_DATA_PATH": "x"}, (), "sets AWS_DATA_PATH, which decides where the storage's keys"),
        ({"BOTO_CONFIG": "x"}, (), "sets BOTO_CONFIG, which decides where the storage's keys"),
        ({"AWS_ENDPOINT_URL": "x"}, (), "sets AWS_ENDPOINT_URL, which decides where the storage's keys .*endpoint"),
        ({}, ("pools.cpu.env[0].name=AWS_ENDPOINT_URL_S3",), r"pools.cpu.env sets AWS_ENDPOINT_URL_S3"),
        ({"AWS_CONFIG_FILE": "x"}, ("clusterSelector=big",), "sets AWS_CONFIG_FILE"),
        ({"A-B": "x"}, (), r"run\.env\.A-B is not allowed .the name of an environment variable: letters"),
        ({"A": "x"}, ("kind=RayCluster",), "not allowed with kind RayCluster, which has no run"),
    ],
)
def test_what_the_chart_refuses(env: dict[str, str], sets: tuple[str, ...], words: str) -> None:
    with pytest.raises(InputError, match=words):
        rendered(env, *sets, run_file="" if "kind=RayCluster" in sets else RUN_FILE)


def test_render_lists_the_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run.yaml").write_text("model: {class_path: some.Model}\ndata: {class_path: some.Data}\n")
    monkeypatch.setenv("APP_SEED", "7")
    render: Callable[..., None] = render_command
    render("train", [str(tmp_path / "run.yaml")], ["kind"], name="demo", env=["APP_SEED", "B=2"])
    out, err = capsys.readouterr()
    assert err == "environment variables of the pods, from --env: APP_SEED, B\n"
    job = next(one for one in load_objects(out) if one["kind"] == "RayJob")
    assert environment(pod_templates(job)["head"])["APP_SEED"] == "7"


def test_a_run_that_is_created_again_needs_them_again() -> None:
    """What is stored of a run has their names only, however often it is resumed."""
    kube = SimpleNamespace(namespace="team", user=lambda: "")
    launch = Launch("demo", "train", "team", "demo-1", "0", "0", env=("A",))
    file = "model: {class_path: some.Model}\ndata: {class_path: some.Data}\n"
    open_storage = {"storage": {"bucket": "bucket"}, "networkPolicy": {"anywhere": True}}
    stored = remove_secrets({**open_storage, "head": {"env": [{"name": "B", "value": "x"}]}})
    with pytest.raises(InputError, match=r"give them again.*: --env A; head\.env: B$"):
        resubmit._render(kube, launch, file, stored, [], [])  # type: ignore[arg-type]
    release, objects, values = resubmit._render(kube, launch, file, stored, [], [], {"A": "1", "B": "2"})  # type: ignore[arg-type]
    found = environment(pod_templates(objects[-1])["head"])
    assert found["A"] == "1" and found["B"] == "2"
    again, left = make_launch(release, values), remove_secrets(values)
    assert again.env == ("A", "B") and left["head"]["env"] == [{"name": "B"}]
