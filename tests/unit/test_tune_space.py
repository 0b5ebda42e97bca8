"""The run file's search space as Ray Tune's, and the draws from it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from ray import tune

from trainer_app.config import Primitive, Tune
from trainer_app.errors import ConfigError
from trainer_app.tuning import space

pytestmark = pytest.mark.unit

HERE = "tests.unit.test_tune_space"
KEY = "model.init_args.lr"


def twice(config: dict[str, Any]) -> Any:
    """A `sample_from` that depends on another key."""
    return 2 * config["model.init_args.layer_1"]


def numpys(config: dict[str, Any]) -> Any:
    return np.int64(7)


def primitive(**kind: Any) -> Primitive:
    return Primitive.model_validate(kind)


def multiple(value: float, q: float) -> bool:
    return math.isclose(value / q, round(value / q), abs_tol=1e-9)


# the run file's words; the same with ray.tune; the type of what is drawn; whether it is in range
Check = Callable[[Any], bool]
TABLE: list[tuple[Primitive, Any, type, Check]] = [
    (primitive(choice=[32, 64, 128]), tune.choice([32, 64, 128]), int, lambda v: v in (32, 64, 128)),
    (primitive(choice=["relu", "gelu"]), tune.choice(["relu", "gelu"]), str, lambda v: v in ("relu", "gelu")),
    (primitive(choice=[True, False]), tune.choice([True, False]), bool, lambda v: v in (True, False)),
    (primitive(choice=[[1, 2], [3]]), tune.choice([[1, 2], [3]]), list, lambda v: v in ([1, 2], [3])),
    (primitive(uniform=[-1.0, 2.0]), tune.uniform(-1.0, 2.0), float, lambda v: -1 <= v < 2),
    (primitive(uniform={"lower": 0, "upper": 1}), tune.uniform(0.0, 1.0), float, lambda v: 0 <= v < 1),
    (
        primitive(quniform=[0, 1, 0.25]),
        tune.quniform(0.0, 1.0, 0.25),
        float,
        lambda v: 0 <= v <= 1 and multiple(v, 0.25),
    ),
    (primitive(loguniform=[1e-4, 1e-1]), tune.loguniform(1e-4, 1e-1), float, lambda v: 1e-4 <= v <= 1e-1),
    (
        primitive(qloguniform=[0.25, 64, 0.25]),
        tune.qloguniform(0.25, 64.0, 0.25),
        float,
        lambda v: 0.25 <= v <= 64 and multiple(v, 0.25),
    ),
    (primitive(randint=[3, 6]), tune.randint(3, 6), int, lambda v: v in (3, 4, 5)),
    (primitive(qrandint=[4, 12, 4]), tune.qrandint(4, 12, 4), int, lambda v: v in (4, 8, 12)),
    (primitive(qrandint=[4, 6]), tune.qrandint(4, 6, 1), int, lambda v: v in (4, 5, 6)),
    (primitive(lograndint=[2, 64]), tune.lograndint(2, 64), int, lambda v: 2 <= v < 64),
    (primitive(qlograndint=[8, 64, 8]), tune.qlograndint(8, 64, 8), int, lambda v: 8 <= v <= 64 and v % 8 == 0),
    (primitive(randn=[10.0, 0.1]), tune.randn(10.0, 0.1), float, lambda v: 9 < v < 11),
    (primitive(randn={}), tune.randn(), float, lambda v: -8 < v < 8),
    (primitive(qrandn=[10.0, 1.0, 0.5]), tune.qrandn(10.0, 1.0, 0.5), float, lambda v: 2 < v < 18 and multiple(v, 0.5)),
]
KINDS = [f"{p.kind}-{i}" for i, (p, *_) in enumerate(TABLE)]


@pytest.mark.parametrize("words, rays, kind, in_range", TABLE, ids=KINDS)
def test_each_primitive_is_rays_own(words: Primitive, rays: Any, kind: type, in_range: Check) -> None:
    made = space.domain(KEY, words)
    assert type(made) is type(rays)
    assert made.domain_str == rays.domain_str
    assert type(made.sampler) is type(rays.sampler)
    if hasattr(rays.sampler, "q"):
        assert made.sampler.q == rays.sampler.q


@pytest.mark.parametrize("words, rays, kind, in_range", TABLE, ids=KINDS)
def test_each_draw_is_in_range_and_plain(words: Primitive, rays: Any, kind: type, in_range: Check) -> None:
    drawn = [next(iter(d.values())) for d in space.draws({KEY: words}, num_samples=300, seed=3)]
    assert {type(v) for v in drawn} == {kind}
    assert all(map(in_range, drawn)), [v for v in drawn if not in_range(v)]
    assert len({str(v) for v in drawn}) > 1


def test_every_kind_is_in_the_table() -> None:
    assert {p.kind for p, *_ in TABLE} | {"grid_search", "sample_from"} == set(Primitive.model_fields)


def test_both_ends_of_what_is_inclusive_are_drawn() -> None:
    drawn = space.draws({"a": primitive(qrandint=[4, 12, 4]), "b": primitive(randint=[3, 6])}, num_samples=300, seed=1)
    pairs = list(drawn)
    assert {p["a"] for p in pairs} == {4, 8, 12} and {p["b"] for p in pairs} == {3, 4, 5}


def test_a_grid_is_rays_own() -> None:
    assert space.domain(KEY, primitive(grid_search=[1, 2])) == tune.grid_search([1, 2])


def test_a_function_sees_what_was_drawn_before_it() -> None:
    keys = {
        "model.init_args.layer_2": primitive(sample_from=f"{HERE}:twice"),
        "model.init_args.layer_1": primitive(choice=[32, 64, 128]),
        "n": primitive(sample_from=f"{HERE}:numpys"),
    }
    drawn = list(space.draws(keys, num_samples=20, seed=1))
    assert all(d["model.init_args.layer_2"] == 2 * d["model.init_args.layer_1"] for d in drawn)
    assert {(type(d["n"]), d["n"]) for d in drawn} == {(int, 7)}
    assert len({d["model.init_args.layer_1"] for d in drawn}) == 3


def test_a_function_that_is_not_there_is_named_by_its_key() -> None:
    with pytest.raises(ConfigError, match=rf"tune\.space\.{KEY}.*no 'nope'"):
        space.domain(KEY, primitive(sample_from=f"{HERE}:nope"))


MIXED = {
    "a": primitive(loguniform=[1e-4, 1e-1]),
    "b": primitive(choice=list(range(50))),
    "c": primitive(randn=[0.0, 1.0]),
    "d": primitive(qlograndint=[1, 512, 1]),
}


def test_the_same_seed_draws_the_same() -> None:
    first = list(space.draws(MIXED, num_samples=25, seed=42))
    np.random.seed(0)  # the process's own generators don't matter
    assert list(space.draws(MIXED, num_samples=25, seed=42)) == first
    assert list(space.draws(MIXED, num_samples=25, seed=43)) != first
    assert len({str(d) for d in first}) == 25


def test_trial_i_is_the_same_in_a_longer_sweep() -> None:
    """`num_samples` may grow on resume: the trials that were drawn before stay what they were."""
    assert list(space.draws(MIXED, num_samples=25, seed=7))[:9] == list(space.draws(MIXED, num_samples=9, seed=7))
    endless = itertools.islice(space.draws(MIXED, num_samples=-1, seed=7), 25)
    assert list(endless) == list(space.draws(MIXED, num_samples=25, seed=7))


def trials(keys: dict[str, Primitive], samples: int) -> int | None:
    return Tune(metric="m", mode="max", num_samples=samples, time_budget_s=1.0, space=keys).num_trials


def test_each_sample_is_tried_with_every_point_of_the_grid() -> None:
    keys = {
        "g": primitive(grid_search=[1, 2, 3]),
        "h": primitive(grid_search=["x", "y"]),
        "r": primitive(uniform=[0.0, 1.0]),
    }
    drawn = list(space.draws(keys, num_samples=4, seed=1))
    assert len(drawn) == trials(keys, 4) == 24
    every = sorted(itertools.product([1, 2, 3], ["x", "y"]))
    for sample in range(4):
        assert sorted((d["g"], d["h"]) for d in drawn[6 * sample : 6 * sample + 6]) == every
    assert len({d["r"] for d in drawn}) == 24  # as in Tune, a random value is drawn for each point


@pytest.mark.parametrize(
    "keys, samples, total",
    [
        ({"r": primitive(uniform=[0.0, 1.0])}, 10, 10),
        ({"g": primitive(grid_search=[1, 2, 3])}, 1, 3),
        ({"g": primitive(grid_search=[1, 2, 3]), "r": primitive(uniform=[0.0, 1.0])}, 10, 30),
        ({"g": primitive(grid_search=[1, 2]), "h": primitive(grid_search=[1])}, 5, 10),
        ({"g": primitive(grid_search=[1, 2])}, -1, None),
    ],
)
def test_the_number_of_trials(keys: dict[str, Primitive], samples: int, total: int | None) -> None:
    assert trials(keys, samples) == total
    if total is not None:
        assert len(list(space.draws(keys, num_samples=samples, seed=0))) == total


def test_an_endless_draw_goes_on() -> None:
    endless = space.draws({"g": primitive(grid_search=[1, 2])}, num_samples=-1, seed=0)
    assert [d["g"] for d in itertools.islice(endless, 500)] == [1, 2] * 250
