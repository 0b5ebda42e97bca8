"""Errors as people and other processes get them."""

from __future__ import annotations

import pickle

import pytest

from trainer_app.errors import MISSING, ConfigError, Problem

pytestmark = pytest.mark.unit


def test_a_problem_is_one_line_with_all_there_is_to_know() -> None:
    problem = Problem("trainer.max_epoch", "unknown key", 5, "did you mean\nmax_epochs?", "run.yaml", 12)
    assert str(problem) == "run.yaml:12: trainer.max_epoch: unknown key (found 5); did you mean max_epochs?"
    assert str(Problem("model", "is missing")) == "model: is missing"


def test_a_config_error_survives_the_way_from_a_worker_to_the_driver() -> None:
    error = ConfigError([Problem("a", "is missing"), Problem("b", "is wrong", None)])
    there = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert str(there) == str(error) == "a: is missing\nb: is wrong (found None)"
    assert there.problems == error.problems and there.problems[0].value is MISSING
