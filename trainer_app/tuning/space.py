"""The run file's `space` as Ray Tune's search space, and draws from it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from ray import tune
from ray.tune.search.sample import Domain
from ray.tune.search.variant_generator import RecursiveDependencyError, generate_variants

from trainer_app.config import Primitive
from trainer_app.lightning_cli.importing import load_object
from trainer_app.records import to_plain

# A sweep that only its time bounds draws at most this many; each draw is a few microseconds.
UNBOUNDED = 1_000_000


def domain(key: str, primitive: Primitive) -> Any:
    """Return what ray.tune's function of the primitive's name returns."""
    if primitive.kind == "sample_from":
        function = load_object(f"tune.space.{key}", primitive.args["func"])
        return tune.sample_from(lambda spec: function(Drawn(spec["config"])))
    return getattr(tune, primitive.kind)(**primitive.args)


class Drawn(dict[str, Any]):
    """The parameters drawn so far. A look-up of another one makes Tune draw that one first."""

    def __getitem__(self, key: str) -> Any:
        value = super().__getitem__(key)
        if isinstance(value, Domain):
            raise RecursiveDependencyError(f"{key} is not drawn yet")
        return value


def domains(space: Mapping[str, Primitive]) -> dict[str, Any]:
    """Return {dotted key: Tune's domain}."""
    return {key: domain(key, primitive) for key, primitive in space.items()}


def draws(space: Mapping[str, Primitive], *, num_samples: int, seed: int | None) -> Iterator[dict[str, Any]]:
    """Yield the parameters of one trial after the other, {dotted key: value}.

    The same `space` and `seed` give the same sequence, so that trial i of a resumed sweep is trial i of the first
    attempt. As in Tune, each sample is tried with every combination of the grids.

    Args:
        num_samples: how many, -1 without bound.
        seed: None draws other parameters each time.
    """
    random = np.random.default_rng(seed)
    spec = {"config": domains(space)}
    for _ in range(num_samples) if num_samples >= 0 else itertools.repeat(0, UNBOUNDED):
        for _, resolved in generate_variants(spec, random_state=random):
            yield {key: to_plain(value, key) for key, value in resolved["config"].items()}
