"""Every value is used, documented, and strict."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from trainer_app.errors import InputError
from trainer_app.launch import helm

pytestmark = pytest.mark.chart
Text = Callable[..., str]
ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm/trainer"
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())


def leaves(values: Any, prefix: str = "") -> dict[str, Any]:
    """{dotted key: default} of values.yaml; an empty block counts as one."""
    if not isinstance(values, dict) or not values:
        return {prefix: values}
    inner = (leaves(value, f"{prefix}.{key}" if prefix else key) for key, value in values.items())
    return {key: value for found in inner for key, value in found.items()}


DEFAULTS = leaves(VALUES)
# What makes another value of a key, by the key or its end; else "other", 7, or the other truth value.
OTHER = {
    "kind": "=RayCluster",
    "cron.schedule": "=@hourly",
    "image.pullPolicy": "=Always",
    "image.pullSecrets": "={one}",
    "image.digest": f"=sha256:{'0' * 64}",
    "run.plan": ".workers=1,{key}.resources.CPU=1,{key}.trials=1,{key}.storageUri=s3://b",
    "run.task": "=tune",
    "run.arguments": "={demo},run.task=test",
    "run.code": f"={'0' * 64}",
    "storage.endpoint": "=http://elsewhere:1",
    "claim.size": "=7Gi",
    "claim.accessModes": "={ReadWriteOnce}",
    "upscalingMode": "=Conservative",
    "gpu.type": "=amd.com/gpu",
    "nodeSelector": ".k=v",
    "annotations": ".k=v",
    "labels": ".k=v",
    "podLabels": ".k=v",
    "affinity": ".podAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight=1,"
    "{key}.podAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.topologyKey=k",
    "tolerations": "[0].key=k",
    "topologySpreadConstraints": "[0].maxSkew=1,{key}[0].topologyKey=k,{key}[0].whenUnsatisfiable=DoNotSchedule",
    "run.env": ".K=v",
    "env": "[0].name=K",
    "shmSize": "=1Gi",
    "tmpSize": "=1Gi",
    "sizeLimit": "=1Gi",
    "ephemeral-storage": "=7Gi",
    "volumes": "[0].name=v,{key}[0].emptyDir.medium=Memory",
    "volumeMounts": "[0].name=v,{key}[0].mountPath=/v",
    "networkPolicy.dns.to": "[0].podSelector.matchLabels.k=v",
    "networkPolicy.storage.to": "[0].podSelector.matchLabels.k=v",
    "networkPolicy.egress": "[0].ports[0].port=443",
    "networkPolicy.apiServer.to": "[0].podSelector.matchLabels.k=v",
    "networkPolicy.apiServer.ports": "={7}",
    "prometheus": "[0].podSelector.matchLabels.k=v",
    "ingressController": "[0].podSelector.matchLabels.k=v",
    "podMonitor.interval": "=7s",
    "ui.from": "[0].podSelector.matchLabels.k=v",
    "serviceAccountAnnotations": ".k=v",
    "submissionMode": "=HTTPMode",
    "managedBy": "=kueue.x-k8s.io/multikueue",
    "cpu": "=7",
    "memory": "=7Gi",
}
# Without these, another value of what begins with the key shows nothing.
CRON = ("kind=RayCronJob", "cron.schedule=@daily")
BESIDE = {
    "cron": CRON,
    "storage.keys.secretAccessKey": ("storage.keys.accessKeyId=a", "storage.keys.secretAccessKey=b"),
    "storage.keys.accessKeyId": ("storage.keys.accessKeyId=a", "storage.keys.secretAccessKey=b"),
    "storage.caBundle.key": ("storage.caBundle.configMap=a",),
    "run.plan": ("storage.bucket=", "clusterSelector=big"),
    "storage.claim": ("storage.bucket=", "storage.claim.size=1Gi"),
    "storage.claim.existing": ("storage.bucket=", "storage.claim.existing=a"),
    "autoscaling": ("autoscaling.enabled=true",),
    "autoscaling.enabled": (),
    "poolDefaults.minReplicas": ("autoscaling.enabled=true", "poolDefaults.maxReplicas=9"),
    "poolDefaults.maxReplicas": ("autoscaling.enabled=true",),
    "poolDefaults.idleTimeoutSeconds": ("autoscaling.enabled=true",),
    "poolDefaults.gpu.type": ("poolDefaults.gpu.count=1",),
    "poolDefaults.spot": ("poolDefaults.spot.enabled=true",),
    "poolDefaults.spot.enabled": ("poolDefaults.spot.nodeSelector.k=v",),
    "poolDefaults.volumeMounts": ("poolDefaults.volumes[0].name=v", "poolDefaults.volumes[0].emptyDir.medium="),
    "head.volumeMounts": ("head.volumes[0].name=v", "head.volumes[0].emptyDir.medium="),
    "submitter": (),
    "networkPolicy.apiServer": ("autoscaling.enabled=true",),
    "podMonitor": ("podMonitor.enabled=true", "networkPolicy.prometheus[0].podSelector.matchLabels.k=v"),
    "podMonitor.enabled": ("networkPolicy.prometheus[0].podSelector.matchLabels.k=v",),
    "ingress": (
        "ingress.enabled=true",
        "ingress.host=h",
        "ingress.tlsSecret=t",
        "networkPolicy.ingressController[0].podSelector.matchLabels.k=v",
    ),
    "ingress.enabled": (
        "ingress.host=h",
        "ingress.tlsSecret=t",
        "networkPolicy.ingressController[0].podSelector.matchLabels.k=v",
    ),
}


PAGES = ("kind=RayCluster", "ui.existingSecret=reader")
BESIDE |= {"ui": (*PAGES, "ui.enabled=true"), "ui.enabled": PAGES}


# A storage needs one of the two.
STORAGE_PEER = (("networkPolicy.anywhere=true",), ("networkPolicy.storage.to[0].podSelector.matchLabels.k=w",))


def beside(key: str) -> tuple[str, ...]:
    """Of the longest entry that the key begins with; and a bucket, which is needed in any case."""
    found = [name for name in BESIDE if f"{key}.".startswith(f"{name}.")]
    return (
        "storage.bucket=mine",
        *STORAGE_PEER[key == "networkPolicy.anywhere"],
        *(BESIDE[max(found, key=len)] if found else ()),
    )


def other(key: str) -> list[str]:
    """`--set`s that change the leaf, and nothing else."""
    end = next((OTHER[name] for name in (key, *OTHER) if name in OTHER and f".{key}".endswith(f".{name}")), None)
    if end is not None:
        return [f"{key}{end}".replace("{key}", key)]
    default = DEFAULTS[key]
    if isinstance(default, bool):
        return [f"{key}={str(not default).lower()}"]
    return [f"{key}=other" if isinstance(default, str) else f"{key}=7"]


@cache
def rendered(*sets: str, notes: bool = False) -> str:
    """Objects of a demo run; the launcher's own values are among those under test, so this calls helm itself."""
    run_file = () if any(one.startswith("kind=RayCluster") for one in sets) else ("--set-json", 'run.file="name: demo"')
    words = [word for one in sets for word in ("--set", one)]
    return helm._run_helm("template", "demo", str(CHART), *run_file, *words)


@pytest.mark.parametrize("key", [key for key in DEFAULTS if key not in ("run.file", "pools.cpu")])
def test_every_value_is_used(key: str) -> None:
    base = beside(key)
    assert rendered(*base, *other(key)) != rendered(*base)


def paths(values: Any, at: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Of every block that values.yaml has, and of one pool."""
    if isinstance(values, dict) and (values or at == ("pools", "cpu")):
        yield at
        for key, value in values.items():
            yield from paths(value, (*at, key))


def wrong(complaint: str, key: str) -> bool:
    """Whether a sentence of the complaint begins with this key, or with one below it."""
    return any(re.match(rf"{re.escape(key)}([.\[]\S+)?,? ", one) for one in complaint.split(": ", 1)[1].split("; "))


def complaint(tmp_path: Path, values: Any) -> str:
    """Of the schema about all that is wrong, in one call."""
    file = tmp_path / "values.yaml"
    file.write_text(json.dumps(values))
    with pytest.raises(InputError, match=r"^values: ") as caught:
        helm._run_helm("template", "demo", str(CHART), "--values", str(file))
    return str(caught.value)


def test_unknown_keys_are_refused_at_every_level(tmp_path: Path) -> None:
    free = {("pools",)}
    levels = [at for at in paths(VALUES) if at not in free]
    assert len(levels) > 25
    values: dict[str, Any] = {}
    for at in levels:
        block = values
        for key in at:
            block = block.setdefault(key, {})
        if at[-1:] not in (("requests",), ("limits",)):
            block["unheardOf"] = 1
    said = complaint(tmp_path, values)
    names = [".".join((*at, "unheardOf")) for at in levels if at[-1:] not in (("requests",), ("limits",))]
    assert [name for name in names if not wrong(said, name)] == []
    assert said.count("unheardOf") >= len(names)


def test_values_of_another_type_are_refused(tmp_path: Path) -> None:
    values: dict[str, Any] = {}
    keys = {key: default for key, default in DEFAULTS.items() if key != "pools.cpu"}
    for key, default in keys.items():
        *parents, last = key.split(".")
        block = values
        for parent in parents:
            block = block.setdefault(parent, {})
        block[last] = [7] if isinstance(default, str | int) else "seven"
    said = complaint(tmp_path, values)
    assert [key for key in keys if not wrong(said, key)] == []


BAD = {
    "kind": "Deployment",
    "clusterSelector": "Big",
    "image.pullPolicy": "Sometimes",
    "image.repository": "",
    "run.task": "fit",
    "run.submission": "UPPER",
    "run.code": "abc",
    "storage.endpoint": "http://key:secret@host",
    "storage.prefix": "/runs",
    "storage.bucket": "no/slash",
    "storage.claim.accessModes": ["ReadOnlyMany"],
    "storage.claim.size": "much",
    "head.resources.limits.memory": "lots",
    "head.trialDrivers": 0,
    "head.affinity": {"nodeAffinities": {}},
    "head.tolerations": [{"x": 1}],
    "head.env": [{"value": "no name"}],
    "head.volumes": [{"name": "x", "hostPath": {"path": "/"}}],
    "poolDefaults.volumes": [{"name": "x", "nfs": {"server": "s", "path": "/"}}],
    "poolDefaults.replicas": -1,
    "poolDefaults.gpu.count": -1,
    "poolDefaults.gpu.type": "nvidia.com/cards",
    "poolDefaults.topologySpreadConstraints": [{"topologyKey": "k"}],
    "poolDefaults.terminationGracePeriodSeconds": 0,
    "networkPolicy.storage.port": 0,
    "networkPolicy.storage.to": [{"x": 1}],
    "networkPolicy.apiServer.ports": [],
    "networkPolicy.egress": [{}, {"to": []}, {"ports": [{"port": 0}]}, {"ports": [{"protocol": "TCP"}]}],
    "autoscaling.upscalingMode": "Fast",
    "podMonitor.interval": "often",
    "ingress.host": "no spaces",
    "lifetime.submissionMode": "Mode",
    "lifetime.ttlSecondsAfterFinished": -1,
    "managedBy": "me",
}


def test_values_out_of_range_are_refused(tmp_path: Path) -> None:
    values: dict[str, Any] = {"pools": {"CPU": {}}}
    for key, bad in BAD.items():
        *parents, last = key.split(".")
        block = values
        for parent in parents:
            block = block.setdefault(parent, {})
        block[last] = bad
    said = complaint(tmp_path, values)
    assert [key for key in BAD if not wrong(said, key)] == []
    assert wrong(said, "pools.CPU") and "^" not in said and "at '" not in said


@pytest.mark.parametrize(
    "assignment, sentence",
    [
        (
            "head.resources.limits.memory=lots",
            "is 'lots'; it must be a quantity of Kubernetes, such as 2, 500m, 8Gi or 1e9",
        ),
        (
            "head.resources.limits.Foo=1",
            "is not allowed (allowed names: cpu, memory, ephemeral-storage, hugepages-2Mi,",
        ),
        ("pools.CPU.replicas=1", "is not allowed (the name of a pool has at most 20 of a-z, 0-9 and '-', begins with"),
        ("pools.cpu.replicsa=2", "is not allowed (did you mean replicas?)"),
        ("pools.cpu.replicas=two", "must be an integer, not a string"),
        ("podLabels.a/b=1", "must be a string, not a number; quote it, or use --set-string"),
        ("lifetime.backoffLimit=-1", "is -1, and must be at least 0"),
        ("kind=Job", "must be one of RayJob, RayCluster, RayCronJob"),
        ("image.tag=null", "is missing"),
        ("image.repository=", "must not be empty"),
        ("storage.endpoint=http://key:secret@host", "must be http(s)://host:port without user"),
    ],
)
def test_a_refusal_is_a_sentence_about_the_key(text: Text, assignment: str, sentence: str) -> None:
    key = assignment.partition("=")[0]
    key = key.removesuffix(".replicas") if "CPU" in key else key
    with pytest.raises(InputError) as caught:
        text(assignment)
    said = str(caught.value)
    assert said.startswith(f"values: {key} ") and sentence in said and ":secret@" not in said and "\n" not in said


def test_several_refusals_below_one_key_are_sentences(text: Text) -> None:
    with pytest.raises(InputError) as caught:
        text("lifetime.stoppable=1", "lifetime.suspend=1", "cron.suspend=1")
    keys = ("cron.suspend", "lifetime.stoppable", "lifetime.suspend")
    sentences = str(caught.value).removeprefix("values: ").split("; ")
    assert sorted(sentences) == [f"{key} must be true or false, not a number" for key in keys]


def test_each_pattern_has_a_description() -> None:
    def nodes(schema: Any) -> Iterator[Any]:
        if isinstance(schema, dict | list):
            yield schema
            for below in schema.values() if isinstance(schema, dict) else schema:
                yield from nodes(below)

    schema = json.loads((CHART / "values.schema.json").read_text())
    restricted = [node for node in nodes(schema) if {"pattern", "patternProperties", "propertyNames"} & set(node)]
    assert restricted and [node for node in restricted if "description" not in node] == []


def test_set_string_is_a_string(text: Text) -> None:
    assert 'image: "trainer:1.10"' in text(helm.StringValue("image.tag=1.10"))
    with pytest.raises(InputError, match=r"podLabels\.a must be a string"):
        text("podLabels.a=1")
    assert 'a: "1"' in text("podLabels.b=x", helm.StringValue("podLabels.a=1"))
    assert helm.merged_values((), (helm.StringValue("podLabels.a=1"),)) == {"podLabels": {"a": "1"}}


DIGEST = f"sha256:{'0' * 64}"


def test_an_image_by_digest(text: Text) -> None:
    assert f'image: "trainer@{DIGEST}"' in text(f"image.digest={DIGEST}")
    assert helm.split_image(f"localhost:5000/a:1@{DIGEST}") == {
        "repository": "localhost:5000/a",
        "tag": "1",
        "digest": DIGEST,
    }
    assert helm.split_image("localhost:5000/a:1") == {"repository": "localhost:5000/a", "tag": "1", "digest": ""}
    for image in ("trainer", f"trainer@sha256:{'0' * 63}", "a b:1"):
        with pytest.raises(InputError, match="has no tag; give repository:tag or repository@sha256:digest"):
            helm.split_image(image)


@pytest.mark.parametrize("key", ["image.tag", "storage.region", "lifetime.backoffLimit", "networkPolicy"])
def test_a_default_taken_away_is_refused(text: Text, key: str) -> None:
    with pytest.raises(InputError, match=key.rsplit(".", maxsplit=1)[-1]):
        text(f"{key}=null")


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "helm/values").glob("*.yaml")))
def test_ready_values_lint_and_render_by_themselves(text: Text, name: str) -> None:
    helm._run_helm("lint", "--strict", str(CHART), "--values", str(helm.find_values_file(name)))
    text(values=(name,))
    text("kind=RayCluster", values=(name,))


@pytest.mark.parametrize("name", ["gke", "eks-karpenter", "aks"])
def test_ready_values_have_a_gpu_pool_that_takes_a_run(text: Text, name: str) -> None:
    made = text(values=(name,), run_file="scaling: {num_workers: 4, use_gpu: true}")
    group = next(
        thing["spec"]["rayClusterSpec"]["workerGroupSpecs"]
        for thing in yaml.safe_load_all(made)
        if thing and thing["kind"] == "RayJob"
    )
    assert [(one["groupName"], one["minReplicas"], one["maxReplicas"]) for one in group] == [("gpu", 0, 4)]
    assert group[0]["template"]["spec"]["nodeSelector"]
    spot = text("pools.gpu.spot.enabled=true", values=(name,))
    assert spot != text(values=(name,))
