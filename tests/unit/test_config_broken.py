"""Each of many broken run files is refused with a line that names the key."""

import pytest

from tests.unit.broken_run_files import BROKEN, MODEL, Broken, tune
from trainer_app.config import loads
from trainer_app.errors import ConfigError, Problem

pytestmark = pytest.mark.unit


def refuse(text: str, overrides: tuple[str, ...] = ()) -> list[Problem]:
    with pytest.raises(ConfigError) as refused:
        loads(text, overrides=overrides)
    assert refused.value.exit_code == 2
    return refused.value.problems


def test_the_table_is_long() -> None:
    assert len(BROKEN) >= 60
    assert len({broken.yaml + str(broken.overrides) for broken in BROKEN.values()}) == len(BROKEN)


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_refused_by_key(broken: Broken) -> None:
    problems = refuse(broken.yaml, broken.overrides)
    key = "run.yaml" if broken.key == "FILE" else broken.key
    lines = [str(problem) for problem in problems if problem.key == key]
    assert lines, f"no problem of {key}, but: {problems}"
    assert any(broken.says in line for line in lines), lines
    assert not any("\n" in line or "CANARY" in line for line in map(str, problems))


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_one_reason_one_problem(broken: Broken) -> None:
    """What follows from a mistake is not told as another one."""
    keys = [problem.key for problem in refuse(broken.yaml, broken.overrides)]
    assert len(keys) == 1, keys


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_says_where(broken: Broken) -> None:
    for problem in refuse(broken.yaml, broken.overrides):
        if problem.key == "run.yaml":
            continue
        assert problem.file in ("run.yaml", "command line"), problem
        if problem.file == "run.yaml" and problem.key != "model":
            assert problem.line is not None, problem


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_a_value_is_shown_only_if_it_is_what_is_wrong(broken: Broken) -> None:
    for line in map(str, refuse(broken.yaml, broken.overrides)):
        about_keys = any(
            text in line for text in ("unknown key", "must be less than", "scaling.use_gpu is", "index of")
        )
        assert not (about_keys and "(found " in line), line


def test_what_is_right_is_not_refused() -> None:
    assert loads(MODEL).trainer == {}
    assert loads("cli: a:B\n").model is None
    config = loads(MODEL + tune("")[1:])
    assert config.tune is not None
    assert config.tune.space["model.init_args.lr"].args == {"lower": 0.0, "upper": 1.0}


def test_all_problems_at_once() -> None:
    text = """\
name: Mnist
model: {class_path: my.Net, lr: 3}
trainer: {max_epoch: 5, max_epochs: five}
scaling: {num_workers: 2.0}
tune:
  mode: best
  scheduler: {asha: {max_t: 5, grace_perod: 1}}
  searcher: optuna
  space:
    model.lr: {grid_search: [1, 2]}
    model.init_args.lr: {loguniform: [1.0e-1, 1.0e-4]}
    storage.uri: {choice: []}
"""
    found = {(problem.line, problem.key) for problem in refuse(text, ("trainer.foo=3",))}
    assert found == {
        (1, "name"),
        (2, "model.lr"),
        (3, "trainer.max_epoch"),
        (3, "trainer.max_epochs"),
        (4, "scaling.num_workers"),
        (5, "tune.metric"),
        (6, "tune.mode"),
        (7, "tune.scheduler.asha.grace_perod"),
        (10, "tune.space.model.lr"),
        (10, "tune.space.model.lr.grid_search"),
        (11, "tune.space.model.init_args.lr.loguniform"),
        (12, "tune.space.storage.uri"),
        (12, "tune.space.storage.uri.choice"),
        (None, "trainer.foo"),
    }


def test_problems_come_in_the_order_of_the_file() -> None:
    problems = refuse(f"scaling: {{x: 1}}\ntrainer: {{y: 1}}\n{MODEL}checkpoint: {{z: 1}}\n", ("failure.w=1",))
    assert [problem.key for problem in problems] == ["scaling.x", "trainer.y", "checkpoint.z", "failure.w"]
