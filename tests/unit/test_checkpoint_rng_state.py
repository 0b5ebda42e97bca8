"""Random states: exact, and plain enough for weights_only."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trainer_app.checkpoint import rng_state

pytestmark = pytest.mark.unit


def draws() -> list[Any]:
    """Of every generator, each kind of draw that its state has a part for."""
    return [
        [random.random(), random.gauss(0, 1), random.getrandbits(70), random.sample(range(99), 5)],
        np.random.rand(7).tolist() + np.random.randn(3).tolist() + np.random.permutation(9).tolist(),
        torch.rand(5).tolist() + torch.randn(19).tolist() + torch.randperm(9).tolist(),
    ]


def seed(number: int) -> None:
    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)


@pytest.fixture(autouse=True)
def undisturbed() -> Any:
    """Other tests' draws stay theirs."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    yield
    random.setstate(before[0])
    np.random.set_state(before[1])
    torch.set_rng_state(before[2])


def odd_draws() -> None:
    """Leaves half of a pair of normal draws behind in Python's and NumPy's states, and torch's in mid-block."""
    random.gauss(0, 1)
    np.random.randn()
    torch.randn(3)


@pytest.mark.parametrize("prepare", [lambda: None, odd_draws, draws], ids=["fresh", "cached halves", "used"])
@pytest.mark.parametrize("way", ["memory", "file"])
def test_a_restored_state_gives_the_same_draws(tmp_path: Path, prepare: Any, way: str) -> None:
    seed(5)
    prepare()
    state = rng_state.capture()
    if way == "file":
        torch.save({"rng": [state]}, tmp_path / "state")
        (state,) = torch.load(tmp_path / "state", weights_only=True)["rng"]
    wanted, after = draws(), draws()
    seed(99)
    assert draws() not in (wanted, after)
    rng_state.restore(state)
    assert draws() == wanted
    assert draws() == after
    rng_state.restore(state)  # a state can be restored again
    assert draws() == wanted


def test_capture_disturbs_nothing() -> None:
    seed(6)
    wanted = draws()
    seed(6)
    rng_state.capture()
    assert draws() == wanted


def test_a_captured_state_does_not_move_with_the_generators() -> None:
    seed(7)
    state = rng_state.capture()
    wanted = draws()
    for _ in range(200):  # past the end of NumPy's and Python's blocks of 624 words
        draws()
    rng_state.restore(state)
    assert draws() == wanted


def test_every_generator_is_restored_by_its_own_state() -> None:
    """None is left out: with one of them missing from what is restored, its draws differ."""
    seed(8)
    state = rng_state.capture()
    wanted = draws()
    seed(9)
    other = rng_state.capture()
    for index, name in enumerate(["python", "numpy", "torch"]):
        rng_state.restore({**state, name: other[name]})
        got = draws()
        assert [g == w for g, w in zip(got, wanted, strict=True)] == [i != index for i in range(3)]


def test_the_state_of_devices_that_are_not_here_is_left_alone() -> None:
    seed(10)
    state = {**rng_state.capture(), "cuda": [torch.get_rng_state()] * (torch.cuda.device_count() + 1)}
    wanted = draws()
    rng_state.restore(state)
    assert draws() == wanted
