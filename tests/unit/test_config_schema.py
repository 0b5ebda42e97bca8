"""The JSON Schema that editors get: valid itself, accepts what loads, refuses what it can of the rest."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from tests.unit.broken_run_files import BROKEN, KEYS, RULES, SWEEP
from tests.unit.test_config import FULL, PRIMITIVES
from tests.unit.tree import ROOT
from trainer_app.config import dump, loads
from trainer_app.config.draft import Draft
from trainer_app.config.schema import json_schema
from trainer_app.config.yaml12 import parse

pytestmark = pytest.mark.unit

MODEL = "model: {class_path: a.Net, init_args: {lr: 0.1}}\n"
SPACE = "space: {model.init_args.lr: {choice: [1]}}"
RIGHT = {
    "full": FULL,
    "least": MODEL,
    "class as a string": "model: a.Net\n",
    "empty blocks": MODEL + "scaling:\ntrainer:\n",
    "cli": "cli: a.b:CLI\nmodel: {width: 3}\nextra: {x: 1}\n",
    "saved": MODEL
    + "trainer: {devices: auto, strategy: ddp, precision: null}\nlr_scheduler: null\nweights_only: null\n",
    "fit": f"fit: {{{MODEL.strip()}}}\n",
    **{
        f"primitive {kind}": MODEL
        + f"tune: {{metric: m, mode: min, space: {{model.init_args.lr: {{{kind}: {text}}}}}}}\n"
        for kind, (text, _) in PRIMITIVES.items()
    },
    **{
        f"scheduler {text}": MODEL + f"tune: {{metric: m, mode: min, scheduler: {text}, {SPACE}}}\n"
        for text in (
            "asha",
            "{asha: }",
            "{median: {hard_stop: false}}",
            "{pbt: {mutations: {model.init_args.lr: [1]}}}",
        )
    },
    "searcher": MODEL + f"tune: {{metric: m, mode: min, searcher: {{optuna: {{seed: 1}}}}, {SPACE}}}\n",
}
# What needs more than one key to see, or the code's rules of launching: left to `trainer validate`.
ACROSS_KEYS = {
    *("blocks: notes are not a key", "blocks: fit twice", "blocks: cli a path", "blocks: cli without colon"),
    *("blocks: short class_path", "blocks: model a file"),
    *("trainer: epochs zero", "trainer: steps -2", "trainer: logger without class", "trainer: epochs a float"),
    *("ours: GPU without use_gpu", "ours: use_gpu without GPU", "ours: TPU", "ours: accelerator on CPU"),
    "ours: workers that share a GPU",
    *("ours: monitor without mode", "ours: mode without monitor", "ours: timeout infinite"),
    *(name for name in BROKEN if name.startswith("ours: storage ") and "password" not in name),
    *(f"sweep: {name}" for name in SWEEP if name.startswith(("bounds", "log of", "q ", "samples -1", "no samples"))),
    *("sweep: no space", "sweep: infinite bound"),
    *(f"keys: {name}" for name in KEYS if name not in ("lr", "storage.uri", "name", "tune.num_samples")),
    *(f"rules: {name}" for name in RULES if name.startswith(("grace", "optuna ", "pbt ")) or "worker" in name),
    "rules: hyperband without end",
}


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    schema = json_schema()
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == Draft202012Validator.META_SCHEMA["$id"]
    return Draft202012Validator(schema)


def values(text: str) -> Any:
    draft = Draft()
    tree = parse(text, draft, "run.yaml")
    return json.loads(json.dumps(tree)) if not draft.problems else None


@pytest.mark.parametrize("name", RIGHT)
def test_accepts_what_loads(name: str, validator: Draft202012Validator) -> None:
    config = loads(RIGHT[name])
    assert [error.message for error in validator.iter_errors(values(RIGHT[name]))] == []
    assert [error.message for error in validator.iter_errors(values(dump(config)))] == []


@pytest.mark.parametrize(
    "file", sorted(ROOT.glob("trainer_app/examples/*/*.yaml")), ids=lambda f: f"{f.parent.name}-{f.stem}"
)
def test_accepts_shipped_run_files(file: Any, validator: Draft202012Validator) -> None:
    assert [error.message for error in validator.iter_errors(values(file.read_text()))] == []


@pytest.mark.parametrize("name", [name for name in BROKEN if name not in ACROSS_KEYS and not BROKEN[name].overrides])
def test_refuses_what_does_not_load(name: str, validator: Draft202012Validator) -> None:
    tree = values(BROKEN[name].yaml)
    if not name.startswith("yaml: "):  # those are no YAML, or no JSON
        assert tree is not None
    assert tree is None or not validator.is_valid(tree)


def test_refuses_most_of_the_table(validator: Draft202012Validator) -> None:
    assert {*ACROSS_KEYS} <= {*BROKEN}
    refused = [name for name, broken in BROKEN.items() if not validator.is_valid(values(broken.yaml))]
    assert len(refused) >= 100


def test_every_key_is_described(validator: Draft202012Validator) -> None:
    def fields(node: Any, at: str) -> Iterator[tuple[str, Any]]:
        for name, value in node.get("properties", {}).items():
            yield f"{at}.{name}", value
        for name, value in node.get("$defs", {}).items():
            yield from fields(value, name)
        for part in node.get("anyOf", []):
            yield from fields(part, at)

    named = [(at, value) for at, value in fields(validator.schema, "") if not at.startswith("Trainer.")]
    assert len(named) > 80
    assert [at for at, value in named if "description" not in value and "$ref" not in str(value)] == []


def test_trainer_knows_its_arguments(validator: Draft202012Validator) -> None:
    assert not validator.is_valid(values(MODEL + "trainer: {max_epoch: 1}\n"))
    assert not validator.is_valid(values(MODEL + "trainer: {strategy: dp}\n"))
    assert not validator.is_valid(values(MODEL + "trainer: {accelerator: mps}\n"))
