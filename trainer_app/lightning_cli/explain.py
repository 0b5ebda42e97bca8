"""One problem for each key that is wrong in a config that jsonargparse refused.

jsonargparse stops at the first error. So after a refusal every value is validated on its own; if the value is a
`class_path` block, each of its arguments is validated against the signature of its class.
"""

from __future__ import annotations

import re
from argparse import ArgumentError
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from jsonargparse import ArgumentParser, Namespace
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from trainer_app.config.draft import get_value, suggest_spelling
from trainer_app.errors import ConfigError, Problem
from trainer_app.lightning_cli.importing import load_object
from trainer_app.lightning_cli.other_lightning import pytorch_lightning_problem
from trainer_app.user_errors import describe_error

# From a value to jsonargparse's message about it, None if it is valid.
Validate = Callable[[Any], str | None]

_BLOCK = ("class_path", "init_args", "dict_kwargs")
_REQUIRED = re.compile(r"the following arguments are required: ([^\n]+)")
_NOT_A = re.compile(r"does not correspond to a subclass of (?:<class ')?([\w.]+)")


def explain(parser: ArgumentParser, args: dict[str, Any], error: BaseException) -> list[Problem]:
    """Return all problems of arguments that jsonargparse refused. Never empty.

    Args:
        parser: the one that refused them.
        args: nested, as in the run file.
        error: what it raised.
    """
    problems, good = explain_values(parser, args)
    return problems + _problems_of_whole(parser, args, good.as_dict(), error if not problems else None)


def explain_values(parser: ArgumentParser, args: dict[str, Any]) -> tuple[list[Problem], Namespace]:
    """Return the problems of the values, each by itself, and the values that have none."""
    problems: list[Problem] = []
    good = Namespace()
    for key, value in _leaves(parser, args):
        name = key.removesuffix("+")  # appends to a list
        wrong = _problems_of_value(key, value, partial(_validation_error, parser, name), parser)
        problems += wrong
        if not wrong:
            good[name] = value
    return problems, good


def _leaves(parser: ArgumentParser, args: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values by dotted key, down to what the parser knows as one argument or does not know."""
    names = _argument_names(parser)
    for name, value in args.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict) and any(n.startswith(f"{key}.") for n in names):
            yield from _leaves(parser, value, f"{key}.")
        else:
            yield key, value


def _argument_names(parser: ArgumentParser) -> list[str]:
    """Return the dotted names of the arguments, without those of a command line only (`--model.help`)."""
    dests = [action.dest for action in parser._actions]
    return [d for d in dests if d.rpartition(".")[2] != "help" and d not in ("config", "print_config")]


def _validation_error(parser: ArgumentParser, key: str, value: Any) -> str | None:
    namespace = Namespace()
    namespace[key] = value
    try:
        parser.validate(namespace, skip_required=True)
    except (Exception, SystemExit) as error:  # noqa: BLE001  whatever user code raises at import or in its own types
        return str(error) or type(error).__name__
    return None


def _problems_of_value(key: str, value: Any, validate: Validate, parser: ArgumentParser | None = None) -> list[Problem]:
    message = validate(value)
    if message is None:
        return []
    if "does not accept option" in message or re.match(r"Option '.*' is not accepted", message):
        return [_unknown_key(key, _argument_names(parser) if parser else [])]
    if isinstance(value, dict) and "class_path" in value:
        return _problems_of_block(key, value, message, validate)
    if isinstance(value, dict) and "init_args" in value:
        return [Problem(key, "class_path is missing beside init_args")]
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        items = [_problems_of_value(f"{key}.{i}", item, lambda v: validate([v])) for i, item in enumerate(value)]
        return [p for item in items for p in item] or [_wrong_value(key, value, message)]
    return [_wrong_value(key, value, message)]


def _problems_of_block(key: str, block: dict[str, Any], message: str, validate: Validate) -> list[Problem]:
    """Return the problems of `{class_path, init_args}`, which `validate` refused with `message`."""
    allowed = f"allowed: {', '.join(_BLOCK)}"
    extra = [Problem(f"{key}.{name}", "unknown key", allowed=allowed) for name in block if name not in _BLOCK]
    path = block["class_path"]
    try:
        cls = _load_class(f"{key}.class_path", path, message)
    except ConfigError as error:
        return extra + error.problems
    not_a = _NOT_A.search(message)
    if not_a and "Problem with given class_path" not in message:
        return [*extra, Problem(f"{key}.class_path", f"is not a {not_a[1].rpartition('.')[2]}", path)]
    arguments = _problems_of_init_args(key, cls, block, validate) if isinstance(cls, type) else []
    return extra + arguments or [_wrong_value(key, block, message)]


def _load_class(key: str, path: Any, message: str) -> Any:
    """Return what `class_path` names; None for a short name, which jsonargparse looks up among known classes."""
    if isinstance(path, str) and "." not in path and "Expected a dot import path" not in message:
        return None
    if not isinstance(path, str) or "." not in path:
        raise ConfigError([Problem(key, "is not the name of a known class", path, "write package.module.Name")])
    cls = load_object(key, path)
    other = pytorch_lightning_problem(key, path, cls)
    if other:
        raise ConfigError([other])
    return cls


def _problems_of_init_args(key: str, cls: type, block: dict[str, Any], validate: Validate) -> list[Problem]:
    parser = ArgumentParser(exit_on_error=False)
    # Lightning passes the first argument of these itself.
    skip = [name for base, name in ((Optimizer, "params"), (LRScheduler, "optimizer")) if issubclass(cls, base)]
    names = parser.add_class_arguments(cls, fail_untyped=False, sub_configs=True, skip={*skip})
    given = block.get("init_args") or {}
    if not isinstance(given, dict):
        return [Problem(f"{key}.init_args", "must be a mapping", given, f"allowed keys: {', '.join(names)}")]
    problems: list[Problem] = []
    good: dict[str, Any] = {}
    for name, value in given.items():
        dotted = f"{key}.init_args.{name}"
        if not any(n.split(".")[0] == name for n in names):
            allowed = [f"{key}.init_args.{n}" for n in names]
            wrong = [_unknown_key(dotted, allowed, f" argument of {cls.__name__}")]
        else:
            wrong = _problems_of_value(dotted, value, partial(_validation_error, parser, name))
        problems += wrong
        if not wrong:
            good[name] = value
    # Without the wrong ones, jsonargparse gets as far as those that are missing.
    missing = _REQUIRED.search(validate({**block, "init_args": good}) or "")
    absent = [n.strip() for n in missing[1].split(",") if n.strip() not in given] if missing else []
    return problems + [Problem(f"{key}.init_args.{n}", f"{cls.__name__} requires this argument") for n in absent]


def _problems_of_whole(
    parser: ArgumentParser, args: dict[str, Any], good: dict[str, Any], error: BaseException | None
) -> list[Problem]:
    """Return what only the whole shows: missing blocks, links between arguments; else `error`, if it is given."""
    try:
        parser.parse_object(good)
    except Exception as second:  # noqa: BLE001  as above
        missing = _REQUIRED.search(str(second))
        if missing:
            absent = [n.strip() for n in missing[1].split(",") if get_value(args, (*n.strip().split("."),)) is None]
            if absent:
                return [Problem(n, "required, and missing") for n in absent]
        if error is not None:
            return [unexplained_problem(second)]
    return [unexplained_problem(error)] if error is not None else []


def unexplained_problem(error: BaseException) -> Problem:
    """Return jsonargparse's message, which no single value explains, at the key that it names."""
    message = str(error) if isinstance(error, ArgumentError) else describe_error(error)
    named = re.search(r'Parser key "(?:fit\.)?([^"]+)"', message)
    return Problem(named[1] if named else "run file", "LightningCLI refuses it: " + " ".join(message.split())[:400])


def _unknown_key(key: str, names: list[str], what: str = " key") -> Problem:
    parent, _, leaf = key.rpartition(".")
    inside = [n[len(parent) + 1 :] if parent else n for n in names if not parent or n.startswith(f"{parent}.")]
    allowed = sorted({n.split(".")[0] for n in inside})
    return Problem(key, f"unknown{what}", allowed=suggest_spelling(leaf, allowed) or "allowed: none")


def _wrong_value(key: str, value: Any, message: str) -> Problem:
    expected = _expected_types(message)
    if expected:
        return Problem(key, "wrong type or value", value, f"expected {expected}")
    return Problem(key, " ".join(message.split())[:400], value)


def _expected_types(message: str) -> str:
    """Return `int or null`, from jsonargparse's nested list of every type that it tried.

    Sorted, null last: `typing` gives all unions of the same types the order of the one that a process made first.
    """
    union = re.search(r"Subtypes: \[(.*)\]", message)
    kinds = union[1] if union else ", ".join(re.findall(r"Expected a ([^\n]+?)(?:\. Got value|$)", message, re.M))
    names = []
    for kind in re.findall(r"<class '([^']+)'>|typing\.Literal\[([^\]]*)\]|((?:[\w.]+)(?:\[[^\]]*\]+)?)", kinds):
        name = kind[1] or (kind[0] or kind[2])
        names.append("null" if name == "NoneType" else name if kind[1] else re.sub(r"(?:\w+\.)+(\w+)", r"\1", name))
    return " or ".join(sorted({n for n in names if n}, key=lambda name: (name == "null", name.lower())))
