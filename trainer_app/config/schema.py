"""The run file's JSON Schema (draft 2020-12), for editors. Only `load` checks rules across keys."""

from __future__ import annotations

from typing import Any

from trainer_app.config.lightning.keys import STRATEGIES, TRAINER_KEYS
from trainer_app.config.models import RunConfig
from trainer_app.config.space import Primitive
from trainer_app.config.sweep import ROOTS
from trainer_app.config.tuning import Scheduler, Searcher
from trainer_app.run_names import BASE_NAME_MAX, RUN_NAME
from trainer_app.storage_uri import SCHEMA_PATTERN

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_JSON_TYPES = {"int": "integer", "float": "number", "bool": "boolean", "str": "string"}
_CLASS = {"type": "string", "pattern": r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$"}
_COMPONENT: dict[str, Any] = {
    "description": "A class and the arguments of its __init__.",
    "type": ["object", "string", "null"],
    "required": ["class_path"],
    "properties": {
        "class_path": {**_CLASS, "description": "package.module.Class"},
        "init_args": {"type": ["object", "null"], "description": "Arguments of __init__."},
        "dict_kwargs": {"type": ["object", "null"], "description": "Arguments that its signature does not name."},
    },
    "additionalProperties": False,
}
_CLASSES = ("model", "data", "optimizer", "lr_scheduler")
_FIT = "LightningCLI's block of the subcommand fit: read as the top level."
_IGNORED = {
    "fit": {"type": ["object", "null"], "description": _FIT},
    "config": {"description": "LightningCLI's own switch: not used."},
    "print_config": {"description": "LightningCLI's own switch: not used."},
    "weights_only": {"description": "LightningCLI's argument of fit: not used."},
}
_TRAINER: dict[str, dict[str, Any]] = {
    "accelerator": {"enum": ["auto", "cpu", "gpu", "cuda", None], "description": "Becomes scaling.use_gpu."},
    "devices": {"type": ["integer", "string", "array", "null"], "description": "Becomes scaling.num_workers."},
    "num_nodes": {"type": ["integer", "null"], "minimum": 1, "description": "Becomes scaling.num_workers."},
    "strategy": {
        "anyOf": [
            {"enum": [*STRATEGIES, None]},
            {"type": "string", "pattern": r"\.|Strategy$"},
            {"type": "object", "$ref": "#/$defs/Component"},
        ],
        "description": "Becomes Ray's strategy of the same name.",
    },
    "callbacks": {"type": ["array", "object", "string", "null"], "items": {"$ref": "#/$defs/Component"}},
}


def json_schema() -> dict[str, Any]:
    """Return the schema of a whole run file, as plain values."""
    schema = RunConfig.model_json_schema()
    definitions = schema["$defs"]
    definitions["Component"] = _COMPONENT
    definitions["Trainer"] = _trainer()
    for model in (Scheduler, Searcher):
        definitions[model.__name__] = _one_of(definitions[model.__name__], names=True)
    definitions["Primitive"] = _one_of(definitions["Primitive"], names=False)
    for name, field in Primitive.model_fields.items():
        args = str(field.annotation).partition(" |")[0].rpartition(".")[2].rstrip("'>")
        definitions[args] = _short_form(definitions[args], name)
    properties = schema["properties"]
    properties["trainer"] = {"anyOf": [{"$ref": "#/$defs/Trainer"}, {"type": "null"}]}
    properties["name"] = {
        "type": ["string", "null"],
        "pattern": f"^{RUN_NAME.pattern}$",
        "maxLength": BASE_NAME_MAX,
        "description": properties["name"]["description"],
    }
    properties["seed_everything"].update({"minimum": 0, "maximum": 4294967295})
    definitions["Storage"]["properties"]["uri"].update({"minLength": 1, "pattern": SCHEMA_PATTERN})
    tune = definitions["Tune"]["properties"]
    tune["space"]["propertyNames"] = {"pattern": r"^[A-Za-z_]\w*(\.\w+)+$"}
    return _whole(schema)


def _whole(schema: dict[str, Any]) -> dict[str, Any]:
    """Allow other keys with `cli`: its arguments, and classes without class_path."""
    names = [name for name in schema["properties"] if name != "arguments"]
    schema["properties"].update(_IGNORED)
    strict = {
        "anyOf": [{"required": ["model"]}, {"required": ["fit"]}],
        "propertyNames": {"enum": [*names, *_IGNORED]},
        "properties": {
            **{name: {"$ref": "#/$defs/Component"} for name in _CLASSES},
            "model": {"type": ["object", "string"], "$ref": "#/$defs/Component"},
            "tune": {"properties": {"space": {"propertyNames": {"pattern": rf"^({'|'.join(ROOTS)})\."}}}},
        },
    }
    for name in _CLASSES:
        schema["properties"][name]["anyOf"].append({"type": "string"})
    for name in ("scaling", "checkpoint", "failure", "storage", "find"):
        schema["properties"][name] = {"anyOf": [schema["properties"][name], {"type": "null"}]}
    schema.pop("additionalProperties", None)
    with_cli = {"properties": {"cli": {"type": "string"}}, "required": ["cli"]}
    about = {"$schema": DIALECT, "title": "Run file of trainer"}
    return {**about, **schema, "title": about["title"], "if": with_cli, "then": {}, "else": strict}


def _trainer() -> dict[str, Any]:
    properties = {}
    for key, types in TRAINER_KEYS.items():
        plain = {"type": [*[_JSON_TYPES[name] for name in types.split()], "null"]} if types else {}
        properties[key] = _TRAINER.get(key, plain)
    about = {"type": "object", "description": "Arguments of lightning.Trainer."}
    return {**about, "properties": properties, "additionalProperties": False}


def _one_of(definition: dict[str, Any], *, names: bool) -> dict[str, Any]:
    """Return the schema of exactly one key, or of its name as a string."""
    definition = {**definition, "minProperties": 1, "maxProperties": 1}
    if not names:
        for key, value in definition["properties"].items():
            if key != "randn":
                value["anyOf"] = [part for part in value["anyOf"] if part.get("type") != "null"]
        return definition
    kinds = {"enum": list(definition["properties"]), "description": "The name, with its defaults."}
    return {"description": definition.get("description", ""), "anyOf": [kinds, definition]}


def _short_form(definition: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return the schema of arguments by name, or by position as `{loguniform: [1e-4, 1e-1]}`."""
    properties = definition["properties"]
    short: dict[str, Any]
    if kind in ("choice", "grid_search"):
        short = {"type": "array", "minItems": 1}
    elif kind == "sample_from":
        pattern = r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"
        properties["func"]["pattern"] = pattern
        short = {"type": "string", "pattern": pattern}
    else:
        least = len(definition.get("required", []))
        items = [dict(value) for value in properties.values()]
        short = {"type": "array", "prefixItems": items, "items": False, "minItems": least}
    return {"description": definition.get("description", ""), "anyOf": [short, definition]}
