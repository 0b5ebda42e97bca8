"""What the chart refuses, each with what was found and what is allowed, in one line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.chart.kuberay_rules import RULES, Rule
from trainer_app.cli.render import render
from trainer_app.errors import InputError
from trainer_app.launch.release import new_release
from trainer_app.redact import is_secret_name
from trainer_app.run.request import RunRequest
from trainer_app.run_names import CRON_NAME_MAX, RUN_NAME_MAX, find_name_problem

pytestmark = pytest.mark.chart
Text = Callable[..., str]
GROW = "autoscaling.enabled=true"
CRON = ("kind=RayCronJob", "cron.schedule=@daily")
LIGHTNING = "model: {class_path: some.Model}\ndata: {class_path: some.Data}\n"
NESTED = "scaling: {num_workers: 2}\ntune: {max_concurrent_trials: 9}"


def refused(text: Text, words: str, *sets: str, **more: Any) -> None:
    with pytest.raises(InputError, match=words) as caught:
        text(*sets, **more)
    assert "\n" not in str(caught.value) and "rayjob.yaml" not in str(caught.value)


@pytest.mark.parametrize(
    "sets, run_file, words",
    [
        ((), "scaling: {num_workers: 3}", r"asks for 3 CPUs at once .* at most 2"),
        ((), "scaling: {use_gpu: true}", r"asks for 1 GPUs at once .* at most 0"),
        (
            ("pools.cpu.gpu.count=1",),
            "scaling: {num_workers: 2, resources_per_worker: {GPU: 2}}",
            r"asks for 4 GPUs at once .* at most 2",
        ),
        # in sum there is enough, but no pod holds such a worker
        (
            ("pools.cpu.resources.limits.cpu=3",),
            "scaling: {num_workers: 2, resources_per_worker: {CPU: 2}}",
            None,
        ),
        (
            ("pools.cpu.resources.limits.cpu=3",),
            "scaling: {num_workers: 3, resources_per_worker: {CPU: 2}}",
            r'asks for 3 workers of \{"CPU":2\} at once but its pools hold at most 2 \(pods: cpu 2 of 3 CPU 0 GPU\)',
        ),
        (
            ("pools.gpu.gpu.count=4", "pools.gpu.resources.limits.cpu=1"),
            "scaling: {num_workers: 4, use_gpu: true, resources_per_worker: {CPU: 0.5, GPU: 1}}",
            r"asks for 4 workers .* at most 2",
        ),
        ((), "scaling: {resources_per_worker: {memory: 4294967296}}", r"asks for 1 workers of .* at most 0"),
        # Ray rounds a pod's CPUs up
        (("pools.cpu.resources.limits.cpu=1500m",), "scaling: {num_workers: 4}", None),
        (
            ("pools.cpu.resources.limits.cpu=1500m",),
            "scaling: {num_workers: 5}",
            "asks for 5 CPUs at once .* at most 4",
        ),
        # pools count with what they can grow to
        ((GROW, "pools.cpu.minReplicas=0", "pools.cpu.maxReplicas=5"), "scaling: {num_workers: 5}", None),
        ((GROW, "pools.cpu.maxReplicas=3"), "scaling: {num_workers: 4}", "asks for 4 CPUs at once .* at most 3"),
        # whose cluster it is is not known here
        (("clusterSelector=big",), "scaling: {num_workers: 99}", None),
    ],
)
def test_workers_against_the_pools(text: Text, sets: tuple[str, ...], run_file: str, words: str | None) -> None:
    if words is None:
        text(*sets, run_file=run_file)
    else:
        refused(text, words, *sets, run_file=run_file)


@pytest.mark.parametrize(
    "sets, run_file, words",
    [
        ((), "tune: {resources_per_trial: {CPU: 2}}", r"asks for 1 workers of \{.CPU.:2\} .* at most 0"),
        (("head.trialDrivers=8",), NESTED, "asks for 9 trials at once but head.trialDrivers is 8"),
        (("head.trialDrivers=9",), NESTED, None),
        # trials of one worker run where the worker does, not on the head
        (("head.trialDrivers=1",), "tune: {max_concurrent_trials: 9}", None),
    ],
)
def test_trials_against_the_pools(text: Text, sets: tuple[str, ...], run_file: str, words: str | None) -> None:
    if words is None:
        text(*sets, run_file=run_file, task="tune")
    else:
        refused(text, words, *sets, run_file=run_file, task="tune")


@pytest.mark.parametrize(
    "words, sets, more",
    [
        (r'would keep its results in "runs".* set storage.bucket', ("storage.bucket=",), {}),
        ("run.file is empty", (), {"run_file": ""}),
        ("run.file is not valid YAML", (), {"run_file": "a: [1"}),
        ("900003 bytes; at most 900000", (), {"run_file": "a: " + "x" * 900_000}),
        ("60003 bytes; at most 60000", ("clusterSelector=big",), {"run_file": "a: " + "x" * 60_000}),
        ("45 characters; at most 44", (), {"name": "n" * 45}),
        ("36 characters; at most 35", CRON, {"name": "n" * 36}),
        ("begins with a letter", (), {"name": "1st"}),
        ("run.file is not allowed with kind RayCluster", ("kind=RayCluster",), {"run_file": "a: 1"}),
        ("clusterSelector is only allowed with kind RayJob, not with RayCronJob", (*CRON, "clusterSelector=big"), {}),
        ("needs cron.schedule", ("kind=RayCronJob",), {}),
        ("cron.schedule is only allowed with kind RayCronJob, not with RayJob", ("cron.schedule=@daily",), {}),
        (
            "lifetime.suspend is not allowed with kind RayCronJob; use cron.suspend",
            (*CRON, "lifetime.suspend=true"),
            {},
        ),
        ("SidecarMode is not offered: .*K8sJobMode or HTTPMode", ("lifetime.submissionMode=SidecarMode",), {}),
        ("InteractiveMode is not offered: .*K8sJobMode or HTTPMode", ("lifetime.submissionMode=InteractiveMode",), {}),
        ("no effect on a RayCronJob", (*CRON, "queue.name=q"), {}),
        ("queue.name needs a run that can be suspended", ("queue.name=q", "lifetime.stoppable=false"), {}),
        ("queue.name and autoscaling.enabled exclude", ("queue.name=q", GROW), {}),
        (
            "queue.name allows at most 6 pools, not 7",
            ("queue.name=q", *(f"pools.p{n}.replicas=1" for n in range(6))),
            {},
        ),
        (
            r"firstStepDeadlineSeconds \(9\) is greater than lifetime.totalDeadlineSeconds \(8\)",
            ("lifetime.firstStepDeadlineSeconds=9", "lifetime.totalDeadlineSeconds=8"),
            {},
        ),
        ("storage.bucket trainer and storage.claim exclude", ("storage.claim.size=1Gi",), {}),
        ("storage.keys and storage.existingSecret trainer-s3 exclude", ("storage.keys.accessKeyId=a",), {}),
        ("needs both accessKeyId and secretAccessKey", ("storage.existingSecret=", "storage.keys.accessKeyId=a"), {}),
        (
            "claim.existing a and storage.claim.size 1Gi exclude",
            ("storage.bucket=", "storage.claim.existing=a", "storage.claim.size=1Gi"),
            {},
        ),
        ("the cluster mounts the claim", ("storage.bucket=", "storage.claim.existing=a", "clusterSelector=big"), {}),
        ("needs ingress.tlsSecret: without TLS", ("ingress.enabled=true", "ingress.host=h"), {}),
        (
            "needs networkPolicy.ingressController",
            ("ingress.enabled=true", "ingress.host=h", "ingress.tlsSecret=t"),
            {},
        ),
        (
            "has fd00:ec2::254/128, where the",
            ("networkPolicy.dns.to[0].ipBlock.cidr=fd00:ec2::254/128",),
            {},
        ),
        ("has 169.254.169.254/32, where", ("networkPolicy.storage.to[0].ipBlock.cidr=169.254.169.254/32",), {}),
        ("has 100.100.100.200/32, where", ("networkPolicy.egress[0].to[0].ipBlock.cidr=100.100.100.200/32",), {}),
        *(
            (f"podLabels has {key}; labels under", ("podLabels." + key.replace(".", r"\.") + "=demo",), {})
            for key in ("job-name", "batch.kubernetes.io/job-name", "controller-uid", "trainer/run", "ray.io/cluster")
        ),
        *(
            (f"mounts over {path}, which", ("head.volumes[0].name=v", "head.volumes[0].emptyDir.medium=", mount), {})
            for path in (
                "/opt",
                "/opt/venv/lib",
                "/tmp/",
                "/tmp/ray/x",
                "//mnt/storage/x",
                "/etc",
                "/usr/lib/x",
                "/proc",
                "/etc/hosts",
                "/etc/ssl/certs",
                "/tmp/.",
            )
            for mount in (f"head.volumeMounts[0].name=v,head.volumeMounts[0].mountPath={path}",)
        ),
        (
            "has a path with '..'",
            (
                "head.volumes[0].name=v,head.volumes[0].emptyDir.medium=",
                "head.volumeMounts[0].name=v,head.volumeMounts[0].mountPath=/data/../x",
            ),
            {},
        ),
        ("needs ingress.host", ("ingress.enabled=true",), {}),
        ("needs a head in this release", ("ingress.enabled=true", "clusterSelector=big"), {}),
        ("needs networkPolicy.prometheus", ("podMonitor.enabled=true",), {}),
        ("podLabels has trainer/run", ("podLabels.trainer/run=x",), {}),
        ("pools is empty", ("pools.cpu=null",), {}),
        ("pools.cpu.maxReplicas is 3, but autoscaling.enabled is false", ("pools.cpu.maxReplicas=3",), {}),
        ("head.env sets TRAINER_RUN", ("head.env[0].name=TRAINER_RUN",), {}),
        (
            "pools.cpu.env has a value for AWS_SECRET_ACCESS_KEY",
            ("pools.cpu.env[0].name=AWS_SECRET_ACCESS_KEY", "pools.cpu.env[0].value=x"),
            {},
        ),
        ("volumes has the name tmp", ("head.volumes[0].name=tmp", "head.volumes[0].emptyDir.medium=Memory"), {}),
        (
            "names the volume x, which is not one of its volumes:",
            ("head.volumeMounts[0].name=x", "head.volumeMounts[0].mountPath=/x"),
            {},
        ),
        (
            "mounts over /tmp",
            (
                "head.volumes[0].name=x",
                "head.volumes[0].emptyDir.medium=",
                "head.volumeMounts[0].name=x",
                "head.volumeMounts[0].mountPath=/tmp",
            ),
            {},
        ),
        (r"shmSize \(4Gi\) is greater than its memory limit \(3Gi\)", ("pools.cpu.shmSize=4Gi",), {}),
    ],
)
def test_refused(text: Text, words: str, sets: tuple[str, ...], more: Any) -> None:
    refused(text, words, *sets, **more)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_of_kuberays_is_refused_before_it(text: Text, rule: Rule) -> None:
    refused(text, rule.ours, *rule.sets, name=rule.run)


@pytest.mark.parametrize("overrides", [[], ["trainer.max_epochs=1"]], ids=["as it is", "overridden"])
def test_lightnings_words_count_as_workers(overrides: list[str], tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(LIGHTNING + "trainer: {devices: 4, num_nodes: 2}\n")
    with pytest.raises(InputError, match="asks for 8 CPUs at once"):
        render("train", [str(file), *overrides], ["kind"])


@pytest.mark.parametrize("more", ["", "scaling: {num_workers: 2, resources_per_worker: {CPU: 1}}  # ours\n"])
def test_a_run_file_that_says_what_it_means_crosses_byte_for_byte(more: str, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(f"# mine\n{LIGHTNING}{more}")
    release = new_release(RunRequest("train", [str(file)], "demo"), ["kind"], [], "team")
    assert release.run_file == file.read_text()


@pytest.mark.parametrize(
    "name", ["AWS_SESSION_TOKEN", "HF_TOKEN", "hfToken", "WANDB_API_KEY", "TOKENIZERS_PARALLELISM"]
)
def test_a_secret_is_no_value(text: Text, name: str) -> None:
    """The chart refuses what `remove_secrets` would leave out of the values that a resumed run is made of."""
    sets = (f"pools.cpu.env[0].name={name}", "pools.cpu.env[0].value=x")
    if is_secret_name(name):
        refused(text, f"pools.cpu.env has a value for {name}; take it from a Secret", *sets)
    else:
        assert name in text(*sets)


@pytest.mark.parametrize(
    "sets, most", [((), RUN_NAME_MAX), (CRON, CRON_NAME_MAX), (("kind=RayCluster",), RUN_NAME_MAX)]
)
def test_the_longest_name_is_the_charts(text: Text, sets: tuple[str, ...], most: int) -> None:
    assert "a" * most in text(*sets, name="a" * most)
    refused(text, f"{most + 1} characters; at most {most}", *sets, name="a" * (most + 1))


@pytest.mark.parametrize("name", ["a", "a-1", "1a", "a.b", "a-", "A"])
def test_a_name_is_the_charts(text: Text, name: str) -> None:
    if find_name_problem(name, RUN_NAME_MAX):
        refused(text, "name|submission", name=name)
    else:
        assert f"name: {name}" in text(name=name)
