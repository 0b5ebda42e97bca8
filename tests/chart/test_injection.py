"""No string of the values leaves its place: it is refused, or the manifests differ in that string only."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.chart.conftest import environment, pod_templates
from tests.chart.test_values import CHART, wrong
from trainer_app.errors import InputError
from trainer_app.launch import helm
from trainer_app.launch.manifests import load_objects

pytestmark = pytest.mark.chart
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
PAYLOADS = [
    "x\n  hostPID: true",
    "x\nhostPID: true\n",
    "{{ .Release.Name }}",
    "x: y",
    "x #y",
    "'",
    '"',
    '"\'x", hostPID: true, y: "',
    "x}, hostPID: true, y: {z",
    "[x",
    "*x",
    "!!binary x",
    "x\r\nhostPID: true",
    "x\u2028hostPID: true",
    "\tx",
    "x\x7f",
    "x\u0085y",
    "x\u0090",
    "<<",
    "=",
]
HASHED = re.compile(r"demo-(run-)?[0-9a-f]{8}")  # names made from the run file
KEYS = ("example.com/key", "memory", "NAME")
CLOSED = {"ingress": {"enabled": False}}
# Keys that go together: what is left out, and what is set beside.
SCENES: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "RayJob": (
        ("serviceAccount.annotations", "clusterSelector", "cron.schedule", "storage.claim", "storage.keys", "queue"),
        {},
    ),
    "RayCluster": (
        (
            *("serviceAccount.name", "clusterSelector", "cron.schedule", "storage.claim", "storage.keys"),
            *("run.file", "run.env", "queue"),
        ),
        {},
    ),
    "RayCronJob": (
        ("serviceAccount.name", "clusterSelector", "storage.claim.existing", "storage.bucket", "storage.keys", "queue"),
        CLOSED,
    ),
    "queue": (
        (
            *("serviceAccount.annotations", "clusterSelector", "cron.schedule", "storage.claim.size"),
            *("storage.bucket", "storage.existingSecret"),
        ),
        {"autoscaling": {"enabled": False}},
    ),
    "clusterSelector": (("serviceAccount.name", "cron.schedule", "storage.claim", "storage.keys", "queue"), CLOSED),
}
FIXED = {"kind": "RayJob", "lifetime.submissionMode": "K8sJobMode", "run.task": "train", "cron.schedule": "@daily"}
BESIDE: dict[str, Any] = {
    "autoscaling": {"enabled": True},
    "podMonitor": {"enabled": True},
    "ingress": {"enabled": True},
    "poolDefaults": {"gpu": {"count": 1}, "spot": {"enabled": True}},
}


class Loader(yaml.CSafeLoader):
    """Reads `<<` and `=` as Kubernetes does: they are strings where they are values."""


for tag in ("merge", "value"):
    Loader.add_constructor(f"tag:yaml.org,2002:{tag}", Loader.construct_yaml_str)


class Leaf(NamedTuple):
    """A string of the schema, with one that it allows."""

    example: str


def resolve(node: Any) -> Any:
    return {**SCHEMA["definitions"][node["$ref"].rpartition("/")[2]], **node} if "$ref" in node else node


def members(node: Any) -> dict[str, Any]:
    """The keys of a mapping, with one for each pattern."""
    below = dict(node.get("properties", {}))
    for pattern, value in node.get("patternProperties", {}).items():
        below[next(key for key in KEYS if re.match(pattern, key))] = value
    if isinstance(node.get("additionalProperties"), dict):
        below[KEYS[0]] = node["additionalProperties"]
    return below


def integer(node: Any) -> list[Any]:
    return [1] if resolve(node).get("type") == "integer" else []


def samples(given: Any) -> list[Any]:
    """Values of a node of the schema, which between them have every string below it; [] if there is none."""
    node = resolve(given)
    if "enum" in node:
        return [Leaf(node["enum"][0])] if isinstance(node["enum"][0], str) else []
    if "items" in node:
        items = samples(node["items"])
        return [items] if items else []
    if below := members(node):
        values = {key: samples(value) for key, value in below.items()}
        required = {key: values[key] or integer(below[key]) for key in node.get("required", ()) if key in below}
        values = {key: value for key, value in (values | required).items() if value}
        if "maxProperties" in node:
            fixed = {key: value[0] for key, value in required.items() if value}
            return [{**fixed, key: one} for key in values if key not in fixed for one in values[key]]
        count = max((len(value) for value in values.values()), default=0)
        return [{key: value[number % len(value)] for key, value in values.items()} for number in range(count)]
    return [Leaf(node.get("examples", ["plain"])[0])] if "string" in node.get("type", ()) else []


def strings(value: Any, key: str = "") -> Iterator[tuple[str, Leaf]]:
    """(key as in an error, leaf) of every string."""
    if isinstance(value, Leaf):
        yield key, value
    elif isinstance(value, dict):
        for name, below in value.items():
            yield from strings(below, f"{key}.{name}".removeprefix("."))
    elif isinstance(value, list):
        for number, below in enumerate(value):
            yield from strings(below, f"{key}[{number}]")


def fill(value: Any, choose: Callable[[str, Leaf], str | None], key: str = "") -> Any:
    """The value with strings in place of leaves; without those for which there is none."""
    if isinstance(value, Leaf):
        return choose(key, value)
    if isinstance(value, dict):
        made = {name: fill(below, choose, f"{key}.{name}".removeprefix(".")) for name, below in value.items()}
        return {name: one for name, one in made.items() if one is not None}
    if isinstance(value, list):
        items = [fill(below, choose, f"{key}[{number}]") for number, below in enumerate(value)]
        return [one for one in items if one is not None] or None
    return value


def example(key: str, leaf: Leaf) -> str:
    if name := re.search(r"volumes\[(\d+)\]\.name$|volumeMounts\[0\]()\.name$", key):
        return f"volume-{name[1] or 0}"
    return FIXED.get(key, leaf.example)


def merge(values: Any, more: Mapping[str, Any]) -> Any:
    for key, value in more.items():
        values[key] = merge(values.setdefault(key, {}), value) if isinstance(value, dict) else value
    return values


TREE = samples(SCHEMA)[0]
LEAVES = dict(strings(TREE))


def values_of(scene: str, replaced: Mapping[str, str]) -> Any:
    """The values of a scene with some strings replaced."""
    absent, beside = SCENES[scene]

    def choose(key: str, leaf: Leaf) -> str | None:
        if key.startswith(absent) or (key == "cron.schedule" and scene != "RayCronJob"):
            return None
        return replaced[key] if key in replaced else example(key, leaf)

    values = merge(merge(fill(TREE, choose), BESIDE), beside)
    values["run"]["plan"] = {"workers": 1, "resources": {}, "trials": 1, **values["run"]["plan"]}
    return values | {"kind": scene if scene.startswith("Ray") else "RayJob"}


def render(folder: Path, values: Any) -> Any:
    (folder / "values.json").write_text(json.dumps(values))
    text = helm._run_helm("template", "demo", str(CHART), "--values", str(folder / "values.json"))
    return list(yaml.load_all(text, Loader))


@cache
def plain_objects(folder: Path, scene: str) -> Any:
    return render(folder, values_of(scene, {}))


def refused(folder: Path, strings_of: Mapping[str, str]) -> set[str]:
    """The keys whose strings the schema refuses."""
    (folder / "values.json").write_text(json.dumps(fill(TREE, lambda key, leaf: strings_of[key])))
    with pytest.raises(InputError, match=r"^values: ") as caught:
        helm._run_helm("template", "demo", str(CHART), "--values", str(folder / "values.json"))
    return {key for key in LEAVES if wrong(str(caught.value), key)}


def differences(plain: Any, injected: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """(key, injected string) where only a string differs; anything else is a failure."""
    assert type(plain) is type(injected), key
    if isinstance(plain, dict):
        assert list(plain) == list(injected), key
        for name in plain:
            yield from differences(plain[name], injected[name], f"{key}.{name}")
    elif isinstance(plain, list):
        assert len(plain) == len(injected), key
        for number, (one, other) in enumerate(zip(plain, injected, strict=True)):
            yield from differences(one, other, f"{key}[{number}]")
    elif plain != injected:
        assert isinstance(plain, str), key
        yield key, injected


def test_the_walk_has_every_kind_of_string() -> None:
    assert len(LEAVES) > 250
    for key in ("image.tag", "head.env[1].valueFrom.secretKeyRef.key", "pools.memory.tolerations[0].value"):
        assert key in LEAVES, key


def may_differ(text: str) -> bool:
    return any(payload in text for payload in PAYLOADS) or bool(HASHED.fullmatch(text))


# Every string has each payload once; with --full all of them.
@pytest.mark.parametrize("shift", [0, *(pytest.param(n, marks=pytest.mark.full) for n in range(1, len(PAYLOADS)))])
def test_a_string_is_refused_or_stays_a_string(tmp_path_factory: pytest.TempPathFactory, shift: int) -> None:
    folder, base = tmp_path_factory.mktemp("values"), tmp_path_factory.getbasetemp()
    tried = {key: PAYLOADS[(number + shift) % len(PAYLOADS)] for number, key in enumerate(LEAVES)}
    bad = refused(folder, tried)
    free = {key: payload for key, payload in tried.items() if key not in bad}
    if payload := free.pop("cron.schedule", None):  # a template refuses it
        with pytest.raises(InputError, match=r"^cron\.schedule is "):
            render(folder, values_of("RayCronJob", {"cron.schedule": payload}))
    assert len(free) < 60, sorted(free)
    for scene in SCENES:
        different = dict(differences(plain_objects(base, scene), render(folder, values_of(scene, free))))
        assert different
        assert [key for key, text in different.items() if not may_differ(text)] == []


@pytest.mark.parametrize(
    "assignment",
    [
        "image.tag=dev\n  hostPID: true",
        "image.repository=trainer\n  hostPID: true",
        "image.pullSecrets[0]=x}\n",
        "networkPolicy.operatorNamespace=x}",
        "head.nodeSelector.k=x\n",
        "head.tolerations[0].key=x y",
        "podLabels.k=x: y",
        "head.env[0].name=A B",
    ],
)
def test_what_kubernetes_would_refuse_the_schema_does(text: Callable[..., str], assignment: str) -> None:
    key = assignment.partition("=")[0]
    with pytest.raises(InputError, match=f"^values: {re.escape(key)} .*must be"):
        text(assignment)


@pytest.mark.parametrize("control", ["\x7f", "\x80", "\u0085", "\ufffe"])
def test_a_control_character_does_not_empty_a_block(tmp_path: Path, control: str) -> None:
    """Helm's toYaml gives nothing at all for one: all annotations, or volumes, were gone without a word."""
    plain = {"example.com/a": "kept"}
    for values in (
        {"head": {"annotations": {**plain, "example.com/b": control}}},
        {"head": {"env": [{"name": "A", "value": control}]}},
        {
            "head": {
                "volumes": [{"name": "v", "configMap": {"name": "c", "items": [{"key": "k", "path": f"a{control}"}]}}]
            }
        },
    ):
        (tmp_path / "values.yaml").write_text(helm._to_yaml(values), encoding="utf-8")
        release = helm.Release(
            "demo", "trainer", "train", "name: demo\n", "demo-1", ("kind", str(tmp_path / "values.yaml"))
        )
        with pytest.raises(InputError, match=r"without .*control characters"):
            helm.template(release)


# Go writes the first ones without quotes, and other readers of YAML take them for numbers or for keys.
ODD = [
    "1e400",
    "0x" + "f" * 20,
    "<<",
    "=",
    "0o17",
    "1_000",
    "1:30",
    "yes",
    "~",
    "2001-01-01",
    ".inf",
    "\U0001f600",
    "a\u2028b",
]


def test_the_launcher_reads_each_string_as_helm_wrote_it(tmp_path: Path) -> None:
    values = {"head": {"annotations": {f"example.com/k{i}": odd for i, odd in enumerate(ODD)}}}
    (tmp_path / "values.yaml").write_text(helm._to_yaml(values), encoding="utf-8")
    env = {f"E{i}": odd for i, odd in enumerate(ODD)}
    release = helm.Release(
        "demo", "trainer", "train", "name: demo\n", "demo-1", ("kind", str(tmp_path / "values.yaml")), env=env
    )
    head = pod_templates(load_objects(helm.template(release))[-1])["head"]
    assert list(head["metadata"]["annotations"].values()) == ODD
    assert {name: value for name, value in environment(head).items() if name in env} == env


@pytest.mark.parametrize("name", ["true", "no", "null", "on"])
def test_a_name_that_yaml_takes_for_another_type(text: Callable[..., str], name: str) -> None:
    objects = list(yaml.safe_load_all(text(helm.StringValue("image.pullSecrets[0]=true"), name=name)))
    assert {type(one["metadata"]["name"]) for one in objects} == {str}
    assert {one["metadata"]["labels"]["trainer/run"] for one in objects} == {name}
