"""pydantic's errors in plain words, with the keys as in the run file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError

from trainer_app.config.draft import Draft, Path, get_value, suggest_spelling
from trainer_app.config.models import RunConfig
from trainer_app.errors import MISSING

_MESSAGES = {
    "int_type": "must be an integer",
    "int_parsing": "must be an integer",
    "int_from_float": "must be an integer",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "string_type": "must be a string",
    "string_too_short": "is empty",
    "dict_type": "must be a mapping of keys to values",
    "model_type": "must be a mapping of keys to values",
    "model_attributes_type": "must be a mapping of keys to values",
    "list_type": "must be a list",
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be greater than {gt}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be less than {lt}",
    "literal_error": "must be {expected}",
    "too_short": "must have at least {min_length} items",
    "too_long": "must have at most {max_length} items",
}
# What a missing key is replaced by, to find what else is wrong.
_STAND_IN: dict[Path, Any] = {("tune", "metric"): "metric", ("tune", "mode"): "max"}
_ROUNDS = 8
_MOST = 200  # keys: thousands are no user's mistake, and their explanations take minutes


def validate_types(draft: Draft) -> RunConfig | None:
    """Check the types of the draft's tree and report problems to the draft.

    Returns:
        The config; with problems that of the tree without the wrong keys, so that the rest can be checked too; None if
        nothing is left to check.
    """
    tree: Any = draft.tree
    known = {problem.key for problem in draft.problems}
    for i in range(_ROUNDS):
        try:
            return RunConfig.model_validate(tree)
        except ValidationError as e:
            errors = e.errors(include_url=False)
            for error in errors[:_MOST] if i == 0 else []:
                if ".".join(_path(error["loc"])) not in known:
                    _add(draft, error)
            if more := len(errors[_MOST:]):
                draft.report(
                    _path(errors[_MOST]["loc"]), f"this and {more} more keys are wrong: the others are not shown"
                )
                return None
            tree = _without(tree, [(_path(error["loc"]), error["type"]) for error in errors])
    return None


def _path(loc: tuple[int | str, ...]) -> Path:
    """Return the path in the run file: without the names of a union's members."""
    return tuple(str(part) for part in loc if not str(part).startswith("|"))


def _add(draft: Draft, error: Any) -> None:
    path, kind, context = _path(error["loc"]), str(error["type"]), error.get("ctx", {})
    value, allowed = error["input"], str(context.get("allowed", ""))
    if kind == "missing":
        draft.report(path, "is missing", allowed=_meaning(path))
        return
    if path and path[-1] == "[key]":
        path, value = path[:-1], MISSING
        message = "a key must be a string"
    elif kind == "extra_forbidden":
        message, value, allowed = "unknown key", MISSING, explain_unknown_key(path)
    elif kind == "refused":
        message = str(context["message"])
    else:
        message = explain_type(error, with_value=False)
    if isinstance(value, BaseModel) or (kind == "refused" and isinstance(value, dict | list)):
        value = MISSING
    draft.report(path, message, value, allowed)


def explain_type(error: Any, *, with_value: bool = True) -> str:
    """Return what one of pydantic's errors is about: what a value must be, and the value."""
    text = _MESSAGES.get(str(error["type"]))
    if error["type"] == "value_error":  # typer's, of a choice: it has the value
        return str(error["msg"]).removeprefix("Value error, ").removesuffix(".")
    message = text.format(**error.get("ctx", {})) if text else str(error["msg"]).lower()
    return f"{message} (found {error['input']!r})" if with_value else message


def explain_unknown_key(path: Path) -> str:
    """Return what is allowed instead of the last key of the path."""
    if path[0] == "fit":
        return "write the key without fit."
    model = _model(path[:-1])
    names = [name for name in model.model_fields if name != "arguments"] if model else []
    hint = suggest_spelling(path[-1], names)
    if len(path) == 1:
        listing, mark, near = hint.partition("did you mean ")
        own = "a LightningCLI's own arguments need cli: package.module:YourCLI"
        return "; ".join(part for part in (listing.removesuffix("; "), own, mark + near) if part)
    if len(path) == 2 and path[0] in RunConfig.model_fields and path[-1] in RunConfig.model_fields:
        return f"{hint}; {path[-1]} belongs at the top level"
    return hint


def _model(path: Path) -> type[BaseModel] | None:
    """Return the model of a block, by its path in the run file."""
    model: type[BaseModel] = RunConfig
    for part in path:
        field = model.model_fields.get(part)
        if field is None:
            continue  # a key of a mapping: its values' model is already there
        inside = next(_models(field.annotation), None)
        if inside is None:
            return None
        model = inside
    return model


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _models(part)


def _meaning(path: Path) -> str:
    """Return the values that the key takes, or what it means."""
    model = _model(path[:-1])
    field = model.model_fields.get(path[-1]) if model else None
    if field is None:
        return ""
    if get_origin(field.annotation) is Literal:
        return f"allowed: {', '.join(get_args(field.annotation))}"
    meaning = field.description or ""
    return meaning[:1].lower() + meaning[1:].rstrip(".")


def _without(tree: Any, faults: list[tuple[Path, str]]) -> Any:
    """Return a copy of the tree without the wrong keys."""
    for path, kind in sorted(faults, key=lambda fault: -len(fault[0])):
        if kind == "missing" and path in _STAND_IN:
            tree = _replace(tree, path, _STAND_IN[path])
        else:
            tree = _remove(tree, path if kind != "missing" else path[:-1])
    return tree


def _remove(tree: Any, path: Path) -> Any:
    while path and not (isinstance(holder := get_value(tree, path[:-1]), dict) and path[-1] in holder):
        path = path[:-1]  # inside a list, or written in its short form: the key above goes
    if not path:
        return {}
    if len(path) == 1:
        return {key: value for key, value in tree.items() if key != path[0]}
    return {**tree, path[0]: _remove(tree[path[0]], path[1:])}


def _replace(tree: Any, path: Path, value: Any) -> Any:
    if not isinstance(tree, dict):
        return tree
    return {**tree, path[0]: value if len(path) == 1 else _replace(tree.get(path[0]), path[1:], value)}
