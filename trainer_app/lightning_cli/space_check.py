"""Check a search space against the code: each key, with each value that it may draw."""

from __future__ import annotations

import contextlib
import itertools
import math
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from trainer_app.config import Primitive, RunConfig, override
from trainer_app.errors import MISSING, ConfigError, Problem
from trainer_app.lightning_cli.build import check_code
from trainer_app.lightning_cli.importing import add_import_paths, load_object

if TYPE_CHECKING:
    from trainer_app.config import Tune

_FRACTION = 0.382  # of a range of floats: if the bounds are whole numbers, this is not
_MAX_CONTEXTS = 64  # combinations of drawn classes, beyond which nothing is checked


def check_space(config: RunConfig) -> None:
    """Parse the run file with the values of trials, as `lightning_cli.check_code` does. Nothing is instantiated.

    All keys change at once, so that a space that fits takes as many parses (45 ms each) as its longest list has values;
    each value of each key is tried alone only if one of them is refused.

    Raises:
        ConfigError: one problem for each value that is refused, at its key in `tune.space` or in the mutations.
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
    """Return the values of a list, or the bounds of a range and one value within; none for a function."""
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
    """Return {key of the block: {dotted key: primitive or list}}."""
    spaces: dict[str, Mapping[str, Any]] = {"tune.space": tune.space}
    if tune.scheduler.kind == "pbt":
        spaces["tune.scheduler.pbt.mutations"] = tune.scheduler.args.mutations
    return spaces


def _problems_of_functions(tune: Tune) -> list[Problem]:
    """Return what is wrong with the functions of `sample_from`."""
    problems: list[Problem] = []
    for key, primitive in tune.space.items():
        if primitive.kind == "sample_from":
            try:
                load_object(f"tune.space.{key}", primitive.args["func"])
            except ConfigError as error:
                problems += error.problems
    return problems


def _fit_together(config: RunConfig, values: Mapping[str, list[Any]]) -> bool:
    """Return whether every value is part of a trial that parses."""
    listed = {key: options for key, options in values.items() if options}
    if len(listed) < len(values):
        return False  # a function's key is checked alone
    rounds = max(map(len, listed.values()), default=0)
    return all(not _problems_with(config, {k: v[i % len(v)] for k, v in listed.items()}) for i in range(rounds))


def _problems_with(config: RunConfig, values: Mapping[str, Any]) -> list[Problem]:
    try:
        with contextlib.redirect_stdout(sys.stderr):
            check_code(override(config, values))
    except ConfigError as error:
        return error.problems
    return []


def _problems_of_key(config: RunConfig, at: str, key: str, values: Mapping[str, list[Any]]) -> Iterator[Problem]:
    """Yield the problems of a key's values; a value is valid if it fits one of the classes that are drawn with it."""
    classes = {k: v for k, v in values.items() if k != key and _selects_class_of(k, key)}
    if any(not options for options in classes.values()):
        return  # a function chooses the class
    if math.prod(map(len, classes.values())) > _MAX_CONTEXTS:
        return
    contexts = [dict(zip(classes, drawn, strict=True)) for drawn in itertools.product(*classes.values())]
    seen: set[str] = set()
    for value in values[key] or [None]:
        refusals = [_problems_with(config, {**context, key: value}) for context in contexts]
        if not all(refusals):
            continue
        problem = _most_relevant(key, refusals[0])
        if not values[key] and "unknown" not in problem.message:
            continue  # for a function only the key is checked
        elsewhere = problem.key != key and not key.endswith("class_path")
        if elsewhere or "unknown" in problem.message:
            value = MISSING  # any value would be wrong
        message = problem.message if problem.key == key else f"{problem.key}: {problem.message}"
        refused = Problem(f"{at}.{key}", message, value, problem.allowed)
        if str(refused) not in seen:
            seen.add(str(refused))
            yield refused


def _selects_class_of(other: str, key: str) -> bool:
    """Return whether `other` draws the class that `key` is an argument of."""
    head, _, leaf = other.rpartition(".")
    return leaf == "class_path" and key.startswith(f"{head}.")


def _most_relevant(key: str, problems: list[Problem]) -> Problem:
    return next((p for p in problems if p.key == key or p.key.startswith(f"{key}.")), problems[0])
