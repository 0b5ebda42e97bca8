"""Whether what a sweep may draw fits the code: each key of the space, with each of its possible values."""

from __future__ import annotations

import contextlib
import itertools
import math
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from trainer_app.config import Primitive, RunConfig, override
from trainer_app.errors import MISSING, ConfigError, Problem
from trainer_app.lightning_cli.build import check
from trainer_app.lightning_cli.importing import add_import_paths, load_object

if TYPE_CHECKING:
    from trainer_app.config import Tune

_FRACTION = 0.382  # of a range of floats: where the bounds are whole, this is not
_MAX_CONTEXTS = 64  # combinations of drawn classes, beyond which a sweep is taken at its word


def check_space(config: RunConfig) -> None:
    """Parses the run file as its trials would have it, as `components.check` does. Nothing is instantiated.

    All keys change at once, so that a space that fits takes as many parses (45 ms each) as its longest list has values;
    only if one of them is refused is each value of each key tried alone.

    Raises:
        ConfigError: one problem for each value that is refused, on its key in `tune.space` or in the mutations.
    """
    if config.tune is None:
        return
    add_import_paths()
    with config.locate_problems():
        problems = _problems_of_functions(config.tune)
        if problems:
            raise ConfigError(problems)
        for at, space in _searched_keys(config.tune).items():
            values = {key: possible_values(primitive) for key, primitive in space.items()}
            if not _fit_together(config, values):
                problems += [problem for key in values for problem in _problems_of_key(config, at, key, values)]
        if problems:
            raise ConfigError(problems)


def possible_values(primitive: Primitive | list[Any]) -> list[Any]:
    """The values of a list, the bounds of a range and one within; none of a function, which only its call tells."""
    if isinstance(primitive, list):
        return primitive
    kind, args = primitive.kind, primitive.args
    if kind in ("choice", "grid_search"):
        values: list[Any] = next(iter(args.values()))
        return values
    if kind == "sample_from":
        return []
    if kind in ("randn", "qrandn"):
        return [float(args["mean"])]
    lower, upper = args["lower"], args["upper"]
    if kind in ("randint", "lograndint"):  # their upper bound is exclusive
        return [lower, upper - 1]
    whole = kind in ("qrandint", "qlograndint")
    step = args.get("q")
    within = lower + _FRACTION * (upper - lower)
    inside = [round(within / step) * step if step else within]
    return [lower, upper, *([] if whole else inside)]


def _searched_keys(tune: Tune) -> dict[str, Mapping[str, Any]]:
    """{where it stands: {dotted key: primitive or list}}"""
    found: dict[str, Mapping[str, Any]] = {"tune.space": tune.space}
    if tune.scheduler.kind == "pbt":
        found["tune.scheduler.pbt.mutations"] = tune.scheduler.args.mutations
    return found


def _problems_of_functions(tune: Tune) -> list[Problem]:
    """Problems of the functions of `sample_from`."""
    problems: list[Problem] = []
    for key, primitive in tune.space.items():
        if primitive.kind == "sample_from":
            try:
                load_object(f"tune.space.{key}", primitive.args["func"])
            except ConfigError as error:
                problems += error.problems
    return problems


def _fit_together(config: RunConfig, values: Mapping[str, list[Any]]) -> bool:
    """Whether every value is part of a trial that parses."""
    given = {key: options for key, options in values.items() if options}
    if len(given) < len(values):
        return False  # a function's key is judged alone
    rounds = max(map(len, given.values()), default=0)
    return all(not _problems_with(config, {k: v[i % len(v)] for k, v in given.items()}) for i in range(rounds))


def _problems_with(config: RunConfig, values: Mapping[str, Any]) -> list[Problem]:
    try:
        with contextlib.redirect_stdout(sys.stderr):
            check(override(config, values))
    except ConfigError as error:
        return error.problems
    return []


def _problems_of_key(config: RunConfig, at: str, key: str, values: Mapping[str, list[Any]]) -> Iterator[Problem]:
    """What is wrong with the key's values; a value that fits one of the classes that are drawn beside it is right."""
    classes = {k: v for k, v in values.items() if k != key and _selects_class_of(k, key)}
    if any(not options for options in classes.values()):
        return  # a function chooses the class
    if math.prod(map(len, classes.values())) > _MAX_CONTEXTS:
        return
    contexts = [dict(zip(classes, drawn, strict=True)) for drawn in itertools.product(*classes.values())]
    told: set[str] = set()
    for value in values[key] or [None]:
        found = [_problems_with(config, {**context, key: value}) for context in contexts]
        if not all(found):
            continue
        problem = _most_relevant(key, found[0])
        if not values[key] and "unknown" not in problem.message:
            continue  # of a function only the key is judged
        elsewhere = problem.key != key and not key.endswith("class_path")
        if elsewhere or "unknown" in problem.message:
            value = MISSING  # with any value it would be wrong
        message = problem.message if problem.key == key else f"{problem.key}: {problem.message}"
        told_so = Problem(f"{at}.{key}", message, value, problem.allowed)
        if str(told_so) not in told:
            told.add(str(told_so))
            yield told_so


def _selects_class_of(other: str, key: str) -> bool:
    """Whether `other` draws the class whose arguments `key` is of."""
    head, _, leaf = other.rpartition(".")
    return leaf == "class_path" and key.startswith(f"{head}.")


def _most_relevant(key: str, problems: list[Problem]) -> Problem:
    return next((p for p in problems if p.key == key or p.key.startswith(f"{key}.")), problems[0])
