"""The order of trials, and what a searcher learns."""

from __future__ import annotations

import itertools
import math
import pickle
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray.tune.experiment import Experiment, Trial
from ray.tune.search import Searcher

from tests.run_samples import sweep_config
from trainer_app.config import override
from trainer_app.records import RunFolder, RunRecord
from trainer_app.storage import open_store
from trainer_app.tuning.search import ResumableSearch
from trainer_app.tuning.study import build_searcher

pytestmark = pytest.mark.unit


def trainable(config: dict[str, Any]) -> None:
    """Never called: no trial is started here."""


def planned(**arguments: Any) -> ResumableSearch:
    given: dict[str, Any] = {"unfinished": [], "draws": iter(()), "start": 0, "total": None, "max_concurrent": 99}
    made = ResumableSearch(**{**given, **arguments})
    made.add_configurations(Experiment("sweep", run=trainable, config={"from": "the experiment"}))
    return made


def numbers() -> Any:
    return ({"x": i} for i in itertools.count(100))


def take(plan: ResumableSearch, at_most: int = 50) -> list[Trial]:
    return list(itertools.takewhile(lambda t: t is not None, (plan.next_trial() for _ in range(at_most))))


def params(trials: list[Trial]) -> list[tuple[str, Any]]:
    return [(t.trial_id, t.config["x"]) for t in trials]


def test_the_unfinished_come_first_with_their_own_numbers_then_new_ones() -> None:
    plan = planned(unfinished=[(1, {"x": 11}), (4, {"x": 14})], draws=numbers(), start=6, total=9)
    assert not plan.is_finished() and plan.total_samples == 9
    trials = take(plan)
    assert params(trials) == [("t00001", 11), ("t00004", 14), ("t00006", 100), ("t00007", 101), ("t00008", 102)]
    assert plan.is_finished() and plan.next_trial() is None


def test_a_trial_is_named_and_given_its_parameters() -> None:
    given = {"model.init_args.lr": 0.1, "data.init_args.batch_size": 32, "list": [1, {"a": 2}]}
    (trial,) = take(planned(unfinished=[(7, given)], start=8, total=8))
    assert trial.trial_id == trial.experiment_tag == "t00007"
    assert trial.config == trial.evaluated_params == given  # nothing of the experiment's own, keys with their dots
    assert trial.status == Trial.PENDING


def test_all_are_done_when_only_unfinished_ones_are_left_over() -> None:
    plan = planned(unfinished=[(2, {"x": 1})], start=5, total=5)
    assert not plan.is_finished()
    assert params(take(plan)) == [("t00002", 1)]
    assert plan.is_finished()


def test_none_begins_once_the_sweep_is_to_stop() -> None:
    stopping = threading.Event()
    plan = planned(unfinished=[(1, {"x": 11})], start=2, total=9, draws=numbers(), stopping=stopping)
    assert len(take(plan, 1)) == 1 and not plan.is_finished()
    stopping.set()
    assert plan.is_finished() and plan.next_trial() is None


def test_nothing_left() -> None:
    plan = planned(start=5, total=5, draws=numbers())
    assert plan.is_finished() and plan.next_trial() is None
    assert planned(start=7, total=5).is_finished()  # num_samples was made smaller on resume


def test_without_a_total_it_goes_on() -> None:
    plan = planned(draws=numbers(), max_concurrent=1000)
    assert len(take(plan, 300)) == 300
    assert not plan.is_finished() and plan.total_samples == 0


def test_draws_that_end_end_the_sweep() -> None:
    plan = planned(draws=iter([{"x": 1}]))
    assert params(take(plan)) == [("t00000", 1)]
    assert plan.is_finished()


def test_no_more_than_max_concurrent_live_at_once() -> None:
    plan = planned(draws=numbers(), total=6, max_concurrent=2, unfinished=[(0, {"x": 0})], start=1)
    assert [t.trial_id for t in take(plan)] == ["t00000", "t00001"]
    assert plan.next_trial() is None and not plan.is_finished()
    plan.on_trial_complete("t00001", {"objective": 1.0})
    assert [t.trial_id for t in take(plan)] == ["t00002"]
    plan.on_trial_complete("t00000", error=True)  # a failed one makes room, too
    plan.on_trial_complete("t00002")
    assert [t.trial_id for t in take(plan)] == ["t00003", "t00004"]
    plan.on_trial_complete("t00003", {"objective": 1.0})
    plan.on_trial_complete("t00003", {"objective": 1.0})  # reported twice, counted once
    assert [t.trial_id for t in take(plan)] == ["t00005"]
    assert plan.is_finished()


def test_tune_may_pickle_it() -> None:
    """Tune snapshots its search algorithm; generators and searchers can't be pickled, and it is never read."""
    plan = planned(draws=numbers(), searcher=Asked([]))
    assert plan.__getstate__() == {}
    assert len(pickle.dumps(plan.__getstate__())) < 99
    plan.save_to_dir("/nowhere")


def test_tunes_metric_and_mode_are_take() -> None:
    assert planned().set_search_properties("objective", "max", {}) is True


class Asked(Searcher):
    """Answers from a list, and records its calls."""

    def __init__(self, answers: list[Any]) -> None:
        super().__init__(metric="objective", mode="max")
        self.answers = answers
        self.calls: list[tuple[Any, ...]] = []

    def suggest(self, trial_id: str) -> Any:
        self.calls.append(("suggest", trial_id))
        return self.answers.pop(0)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self.calls.append(("result", trial_id, result["objective"]))

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self.calls.append(("complete", trial_id, result and result["objective"], error))

    def add_evaluated_point(self, parameters: dict[str, Any], value: float, *args: Any, **kwargs: Any) -> None:
        self.calls.append(("point", parameters, value))

    def said(self, *kinds: str) -> list[tuple[Any, ...]]:
        return [line for line in self.calls if line[0] in kinds]


def test_a_searcher_is_asked_for_new_ones_only() -> None:
    searcher = Asked([{"x": 5}, {"x": 6}])
    plan = planned(unfinished=[(0, {"x": 1})], start=3, total=5, searcher=searcher, draws=numbers())
    assert params(take(plan)) == [("t00000", 1), ("t00003", 5), ("t00004", 6)]
    assert searcher.calls == [("suggest", "t00003"), ("suggest", "t00004")]
    assert plan.is_finished()


def test_what_a_searcher_proposes_is_made_plain() -> None:
    searcher = Asked([{"x": np.float64(0.5), "y": np.int64(3), "z": "a"}])
    (trial,) = take(planned(searcher=searcher, total=1))
    assert trial.config == {"x": 0.5, "y": 3, "z": "a"}
    assert [type(v) for v in trial.config.values()] == [float, int, str]


def test_a_searcher_that_has_nothing_now_is_asked_again() -> None:
    searcher = Asked([None, {"x": 5}, None, {"x": 6}])
    plan = planned(searcher=searcher, total=2)
    assert plan.next_trial() is None and not plan.is_finished()
    assert params(take(plan)) == [("t00000", 5)]
    assert not plan.is_finished()
    assert params(take(plan)) == [("t00001", 6)]  # no number is lost by the refusals
    assert searcher.said("suggest") == [("suggest", t) for t in ("t00000", "t00000", "t00001", "t00001")]


def test_a_searcher_that_has_finished_ends_the_sweep() -> None:
    plan = planned(searcher=Asked([{"x": 5}, Searcher.FINISHED]), total=10)
    assert params(take(plan)) == [("t00000", 5)]
    assert plan.is_finished() and plan.next_trial() is None


def test_unfinished_trials_run_though_the_searcher_has_finished() -> None:
    plan = planned(unfinished=[(0, {"x": 1}), (1, {"x": 2})], start=2, searcher=Asked([Searcher.FINISHED]), total=10)
    assert params(take(plan)) == [("t00000", 1), ("t00001", 2)]
    assert plan.is_finished()


# what Tune says of a trial that the searcher proposed, and what the searcher hears
ENDS: list[tuple[dict[str, Any] | None, bool, tuple[Any, ...]]] = [
    ({"objective": 0.7}, False, ("complete", "t00001", 0.7, False)),
    ({"objective": 0.7}, True, ("complete", "t00001", None, True)),
    (None, True, ("complete", "t00001", None, True)),
    (None, False, ("complete", "t00001", None, True)),
    ({}, False, ("complete", "t00001", None, True)),
    ({"epochs": 3}, False, ("complete", "t00001", None, True)),
    ({"error": "ValueError: x", "objective": 0.7}, False, ("complete", "t00001", None, True)),
]


@pytest.mark.parametrize("result, error, heard", ENDS)
def test_a_searcher_hears_how_its_trials_ended(result: Any, error: bool, heard: tuple[Any, ...]) -> None:
    searcher = Asked([{"x": 5}])
    plan = planned(unfinished=[(0, {"x": 1})], start=1, searcher=searcher, total=2)
    take(plan)
    plan.on_trial_result("t00001", {"objective": 0.5})
    plan.on_trial_result("t00001", {"error": "no objective"})
    plan.on_trial_complete("t00001", result, error)
    assert searcher.calls[1:] == [("result", "t00001", 0.5), heard]


@pytest.mark.parametrize(
    "result, error, heard",
    [
        ({"objective": 0.7}, False, [("point", {"x": 1}, 0.7)]),
        ({"objective": 0.7}, True, []),
        ({"error": "x"}, False, []),
        (None, False, []),
    ],
)
def test_a_trial_of_an_earlier_attempt_is_told_as_a_point(result: Any, error: bool, heard: list[Any]) -> None:
    """This searcher never proposed it: it would not know the trial's name."""
    searcher = Asked([])
    plan = planned(unfinished=[(0, {"x": 1})], start=1, searcher=searcher, total=1)
    take(plan)
    plan.on_trial_result("t00000", {"objective": 0.5})
    plan.on_trial_complete("t00000", result, error)
    assert searcher.calls == heard


@pytest.mark.parametrize("mode", ["max", "min"])
def test_nan_is_the_worst_value_for_optuna(mode: str, tmp_path: Path) -> None:
    """Of a trial of this attempt and of an earlier one; Ray's OptunaSearch leaves the first without a value."""
    folder = RunFolder.create(open_store(str(tmp_path)), RunRecord(name="r", task="tune"), "")
    search = build_searcher(override(sweep_config(searcher="optuna"), {"tune.mode": mode}), folder, seed=1, start=0)
    plan = planned(unfinished=[(0, {"model.init_args.lr": 0.5})], searcher=search, start=1, total=4)
    worst = -math.inf if mode == "max" else math.inf
    for trial, value in zip(take(plan), [math.nan, 0.5, math.nan, 0.25], strict=True):
        result = {"training_iteration": 1, "epochs": 1, "objective": value}
        plan.on_trial_result(trial.trial_id, result)
        plan.on_trial_complete(trial.trial_id, result)
    trials = search._ot_study.trials
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 4
    assert sorted((trial.value for trial in trials), key=str) == sorted([worst, worst, 0.25, 0.5], key=str)
    assert search._ot_study.best_value == (0.5 if mode == "max" else 0.25)
