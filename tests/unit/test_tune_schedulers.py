"""Ray Tune's schedulers with the run file's arguments, and the reasons that they give."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import (
    AsyncHyperBandScheduler,
    FIFOScheduler,
    HyperBandScheduler,
    MedianStoppingRule,
    PopulationBasedTraining,
    TrialScheduler,
)

from trainer_app.config import RunConfig, Tune
from trainer_app.tuning import history, population, schedulers

pytestmark = pytest.mark.unit

CONTINUE, STOP, PAUSE = TrialScheduler.CONTINUE, TrialScheduler.STOP, TrialScheduler.PAUSE
LR = "model.init_args.lr"


def build(scheduler: Any, *, mode: str = "max", epochs: int | None = 8) -> Any:
    space = {LR: {"loguniform": [1e-4, 1e-1]}}
    block = {"metric": "val/acc", "mode": mode, "scheduler": scheduler, "space": space}
    return schedulers.build(RunConfig(tune=Tune.model_validate(block)), epochs=epochs)


@dataclass(eq=False)
class FakeTrial:
    """As much of Tune's trial as its schedulers look at."""

    trial_id: str
    status: str = Trial.RUNNING
    is_saving: bool = False
    config: dict[str, Any] = field(default_factory=lambda: {LR: 1})
    last_result: dict[str, Any] = field(default_factory=dict)


class Controller:
    """Stops trials as Tune's controller does, and notes which."""

    def __init__(self, scheduler: Any) -> None:
        self.scheduler = scheduler
        self.trials: list[FakeTrial] = []
        self.stopped: list[str] = []

    def add(self, name: str, status: str = Trial.RUNNING) -> FakeTrial:
        trial = FakeTrial(name, status)
        self.trials.append(trial)
        self.scheduler.on_trial_add(self, trial)
        return trial

    def get_live_trials(self) -> list[FakeTrial]:
        return [t for t in self.trials if t.status != Trial.TERMINATED]

    def stop_trial(self, trial: FakeTrial) -> None:
        if trial.status == Trial.TERMINATED:
            return
        if trial.status in (Trial.PENDING, Trial.PAUSED):
            self.scheduler.on_trial_remove(self, trial)
        else:
            self.scheduler.on_trial_complete(self, trial, trial.last_result)
        trial.status = Trial.TERMINATED
        self.stopped.append(trial.trial_id)

    def report(self, trial: FakeTrial, epoch: int, value: float) -> str:
        """One epoch's result; the decision is carried out."""
        trial.last_result = said(epoch, value)
        decision: str = self.scheduler.on_trial_result(self, trial, trial.last_result)
        if decision == STOP:
            self.stop_trial(trial)
        elif decision == PAUSE:
            trial.status = Trial.PAUSED
        return decision


def said(epoch: int, value: float) -> dict[str, Any]:
    return {"epochs": epoch, "objective": value}


class Saving:
    """The part of Tune's controller that population based training uses, with Tune's own trials."""

    search_alg = None

    def __init__(self, scheduler: Any, count: int) -> None:
        self.scheduler, self.saved = scheduler, 0
        self.trials = [Trial("t", trial_id=f"t{i}", config={LR: 0.1}, stub=True) for i in range(count)]
        for trial in self.trials:
            trial.set_status(Trial.RUNNING)
            scheduler.on_trial_add(self, trial)

    def get_trials(self) -> list[Trial]:
        return self.trials

    def _schedule_trial_save(self, trial: Trial, result: dict[str, Any]) -> str:
        self.saved += 1
        return f"{trial.trial_id} at {result['epochs']}"

    def pause_trial(self, trial: Trial, should_checkpoint: bool) -> None:
        trial.set_status(Trial.PAUSED)

    def report(self, number: int, epoch: int, value: float) -> str | None:
        """One result. Returns what the trial resumes from, if it clones another one."""
        trial = self.trials[number]
        self.scheduler.on_trial_result(self, trial, said(epoch, value))
        if trial.status != Trial.PAUSED:
            return None
        trial.set_status(Trial.RUNNING)
        return str(trial.checkpoint)


# --- arguments

# the scheduler of the run file; Ray's class; its attributes
ARGUMENTS: list[tuple[Any, type, dict[str, Any]]] = [
    ("fifo", FIFOScheduler, {}),
    ("asha", AsyncHyperBandScheduler, {"_max_t": 8, "_reduction_factor": 4, "_stop_last_trials": True}),
    (
        {"asha": {"max_t": 27, "grace_period": 3, "reduction_factor": 3, "brackets": 2, "stop_last_trials": False}},
        AsyncHyperBandScheduler,
        {"_max_t": 27, "_reduction_factor": 3, "_stop_last_trials": False},
    ),
    ("hyperband", HyperBandScheduler, {"_max_t_attr": 8, "_eta": 3, "_stop_last_trials": True}),
    (
        {"hyperband": {"max_t": 16, "reduction_factor": 2, "stop_last_trials": False}},
        HyperBandScheduler,
        {"_max_t_attr": 16, "_eta": 2, "_stop_last_trials": False},
    ),
    (
        "median",
        MedianStoppingRule,
        {
            "_grace_period": 1,
            "_min_samples_required": 3,
            "_hard_stop": True,
            "_min_time_slice": schedulers.NEVER,
        },
    ),
    (
        {"median": {"grace_period": 4, "min_samples_required": 5, "min_time_slice": 2, "hard_stop": False}},
        MedianStoppingRule,
        {"_grace_period": 4, "_min_samples_required": 5, "_hard_stop": False, "_min_time_slice": 2},
    ),
    (
        {"pbt": {"mutations": {LR: [0.1, 0.2]}}},
        PopulationBasedTraining,
        {
            "_perturbation_interval": 1,
            "_burn_in_period": 0,
            "_quantile_fraction": 0.25,
            "_resample_probability": 0.25,
            "_perturbation_factors": (1.2, 0.8),
            "_synch": False,
            "_hyperparam_mutations": {LR: [0.1, 0.2]},
            "_log_config": False,
        },
    ),
    (
        {
            "pbt": {
                "perturbation_interval": 3,
                "burn_in_period": 4,
                "quantile_fraction": 0.5,
                "resample_probability": 0.0,
                "perturbation_factors": [2.0, 0.5],
                "synch": True,
                "mutations": {LR: [1, 2]},
            }
        },
        PopulationBasedTraining,
        {
            "_perturbation_interval": 3,
            "_burn_in_period": 4,
            "_quantile_fraction": 0.5,
            "_resample_probability": 0.0,
            "_perturbation_factors": (2.0, 0.5),
            "_synch": True,
        },
    ),
]


@pytest.mark.parametrize("words, kind, attributes", ARGUMENTS, ids=lambda v: str(v)[:30])
def test_arguments_reach_rays_class(words: Any, kind: type, attributes: dict[str, Any]) -> None:
    made = build(words)
    assert {name: getattr(made, name) for name in attributes} == attributes
    assert made.reasons == {}
    assert isinstance(made, kind)


@pytest.mark.parametrize("words", [words for words, kind, _ in ARGUMENTS if kind is not FIFOScheduler], ids=str)
@pytest.mark.parametrize("mode", ["min", "max"])
def test_all_go_by_epochs_and_the_objective(words: Any, mode: str) -> None:
    made = build(words, mode=mode)
    assert (made._time_attr, made._metric, made._mode) == ("epochs", "objective", mode)


@pytest.mark.parametrize("kind, attribute", [("asha", "_max_t"), ("hyperband", "_max_t_attr")])
def test_max_t_is_the_fits_length_where_it_is_not_given(kind: str, attribute: str) -> None:
    assert getattr(build(kind, epochs=5), attribute) == 5
    assert getattr(build({kind: {"max_t": 3}}, epochs=5), attribute) == 3
    if kind == "asha":
        assert getattr(build(kind, epochs=None), attribute) == schedulers.NEVER


def test_rungs_and_brackets_of_asha() -> None:
    made = build({"asha": {"max_t": 9, "grace_period": 1, "reduction_factor": 3, "brackets": 2}})
    rungs = [[milestone for milestone, _ in bracket._rungs] for bracket in made._brackets]
    assert rungs == [[9, 3, 1], [9, 3]]


def test_mutations_are_drawn_from_rays_domains() -> None:
    made = build({"pbt": {"mutations": {LR: {"loguniform": [1e-4, 1e-1]}, "model.init_args.n": {"choice": [7]}}}})
    mutations = made._hyperparam_mutations
    assert all(1e-4 <= mutations[LR].sample() <= 1e-1 for _ in range(50))
    assert mutations["model.init_args.n"].sample() == 7


def test_which_schedulers_need_every_epochs_commit() -> None:
    """A pause ends the trial's fit: it resumes from its last commit. ASHA and FIFO never pause."""
    for kind in ("fifo", "asha"):
        assert kind not in schedulers.NEEDS_EVERY_EPOCH
    assert set(schedulers.NEEDS_EVERY_EPOCH) == {"hyperband", "median", "pbt"}


# --- reasons


@pytest.mark.parametrize("mode, good, bad", [("max", 0.9, 0.12345), ("min", 0.12345, 0.9)])
def test_asha_says_what_a_trial_was_stopped_against(mode: str, good: float, bad: float) -> None:
    made = build({"asha": {"max_t": 8, "reduction_factor": 2}}, mode=mode)
    tune = Controller(made)
    a, b = tune.add("t00000"), tune.add("t00001")
    assert tune.report(a, 1, good) == CONTINUE and made.reasons == {}
    assert tune.report(b, 1, bad) == STOP
    said = f"asha: {bad:.4g} at epoch 1 against {good:.4g}, not among the best 1/2"
    assert made.reasons == {"t00001": said}


def test_asha_says_the_cutoff_between_those_that_were_there_before() -> None:
    """The upper half of 0.2, 0.4, 0.6, 0.8 begins at 0.5; the trial's own value counts only afterwards."""
    made = build({"asha": {"max_t": 8, "reduction_factor": 2}})
    tune = Controller(made)
    for i, value in enumerate([0.2, 0.4, 0.6, 0.8]):
        tune.report(tune.add(f"t{i:05d}"), 1, value)
    assert tune.report(tune.add("t00009"), 1, 0.45) == STOP
    assert made.reasons["t00009"] == "asha: 0.45 at epoch 1 against 0.5, not among the best 1/2"


def test_asha_says_the_rung_that_decided() -> None:
    made = build({"asha": {"max_t": 9, "reduction_factor": 3}})
    tune = Controller(made)
    first, second = tune.add("t00000"), tune.add("t00001")
    for epoch, value in [(1, 0.1), (2, 0.2), (3, 0.7)]:
        assert tune.report(first, epoch, value) == CONTINUE
    assert [tune.report(second, epoch, 0.5) for epoch in (1, 2)] == [CONTINUE, CONTINUE]
    assert tune.report(second, 3, 0.5) == STOP
    assert made.reasons["t00001"] == "asha: 0.5 at epoch 3 against 0.7, not among the best 1/3"


def test_asha_says_the_cutoff_of_the_trials_own_bracket() -> None:
    made = build({"asha": {"max_t": 9, "reduction_factor": 3, "brackets": 2}})
    tune = Controller(made)
    names = [tune.add(f"t{i:05d}") for i in range(60)]
    members = [t for t in names if made._trial_info[t.trial_id] is made._brackets[1]]
    others = [t for t in names if t not in members]
    assert len(members) >= 2 and others  # 60 draws of brackets at 27 and 73 %
    tune.report(others[0], 3, 0.95)  # bracket 0 has another cutoff at epoch 3
    assert tune.report(members[0], 3, 0.6) == CONTINUE
    assert tune.report(members[1], 3, 0.5) == STOP
    assert made.reasons[members[1].trial_id] == "asha: 0.5 at epoch 3 against 0.6, not among the best 1/3"


def test_asha_says_that_max_t_was_reached() -> None:
    made = build({"asha": {"max_t": 4, "reduction_factor": 2}})
    tune = Controller(made)
    only = tune.add("t00000")
    assert [tune.report(only, epoch, 0.1) for epoch in (1, 2, 3, 4)] == [CONTINUE] * 3 + [STOP]
    assert made.reasons == {"t00000": "reached max_t 4"}


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_asha_stops_what_is_no_number_at_its_first_rung_and_forgets_it(mode: str, value: float) -> None:
    """Ray's own lets NaN pass every rung; with an infinity among them it interpolates its cut-off to NaN."""
    worst = -value if mode == "max" else value
    tune = Controller(build({"asha": {"grace_period": 2, "reduction_factor": 2}}, mode=mode))
    lost = [tune.add(f"t{i}") for i in range(3)]
    assert [tune.report(trial, 1, worst) for trial in lost] == [CONTINUE] * 3
    assert [tune.report(trial, 2, worst) for trial in lost] == [STOP] * 3  # also the first, with none to compare
    said = {tune.scheduler.reasons[trial.trial_id] for trial in lost}
    assert said == {f"asha: {worst} at epoch 2 is worse than any value"}
    good, bad = (0.9, 0.1) if mode == "max" else (0.1, 0.9)
    for i, value in enumerate([good, good, bad]):
        trial = tune.add(f"u{i}")
        tune.report(trial, 1, value)
        assert tune.report(trial, 2, value) == (STOP if value == bad else CONTINUE)


def test_asha_is_told_of_the_past_without_what_is_no_number() -> None:
    scheduler = build({"asha": {"grace_period": 1, "reduction_factor": 2}})
    history.replay(scheduler, "t0", [(1, 0.9), (2, math.nan)], ended=True)
    history.replay(scheduler, "t1", [(1, -math.inf)], ended=True)
    ((_, recorded),) = [rung for rung in scheduler._brackets[0]._rungs if rung[0] == 1]
    assert recorded == {"t0": 0.9} and scheduler.reasons == {} and scheduler._trial_info == {}


@pytest.mark.parametrize("mode", ["max", "min"])
def test_median_takes_nan_for_the_worst_value(mode: str) -> None:
    """Ray's `max` keeps a NaN that came first: a trial that was better since was stopped for it."""
    good, bad = (0.9, 0.1) if mode == "max" else (0.1, 0.9)
    made = build({"median": {"min_samples_required": 2, "grace_period": 2}}, mode=mode)
    tune = Controller(made)
    for i in range(3):
        peer = tune.add(f"t{i}")
        for epoch in (1, 2):
            assert tune.report(peer, epoch, math.nan if i == 2 and epoch == 1 else 0.5) == CONTINUE
    recovers, worse, never = tune.add("u0"), tune.add("u1"), tune.add("u2")
    for trial, value, decision in ((recovers, good, CONTINUE), (worse, bad, STOP), (never, math.nan, STOP)):
        tune.report(trial, 1, math.nan)
        assert tune.report(trial, 2, value) == decision


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize("lost", [6, 7, 8, 9])
def test_hyperband_takes_nan_for_the_worst_value(mode: str, lost: int) -> None:
    """Of the four of a bracket the two best stay, in whatever order they report."""
    made = build({"hyperband": {"max_t": 4, "reduction_factor": 2}}, mode=mode)
    tune = Controller(made)
    trials = [tune.add(f"t{i:05d}") for i in range(10)]
    values = iter([0.9, 0.8, 0.1] if mode == "max" else [0.1, 0.2, 0.9])
    reported = {i: math.nan if i == lost else next(values) for i in range(6, 10)}
    for i, value in reported.items():
        tune.report(trials[i], 1, value)
    worst = max((i for i in reported if i != lost), key=lambda i: reported[i] if mode == "min" else -reported[i])
    assert sorted(tune.stopped) == sorted(f"t{i:05d}" for i in (lost, worst))


@pytest.mark.parametrize("mode", ["max", "min"])
def test_a_trial_of_nan_clones_another_and_is_not_cloned(mode: str) -> None:
    good, bad = (0.9, 0.8) if mode == "max" else (0.1, 0.2)
    block = {"pbt": {"perturbation_interval": 1, "quantile_fraction": 0.5, "mutations": {LR: [0.1, 0.2]}}}
    for order in itertools.permutations(range(4)):
        tune = Saving(build(block, mode=mode), 4)
        values = {0: good, 1: good, 2: bad, 3: math.nan}
        for number in order:
            tune.report(number, 1, values[number])
        cloned = [tune.report(number, 2, values[number]) for number in order]
        assert not any(str(source).startswith("t3") for source in cloned), order
        assert cloned[order.index(3)] is not None, order


def test_asha_leaves_a_result_without_objective_alone() -> None:
    made = build("asha")
    tune = Controller(made)
    trial = tune.add("t00000")
    assert made.on_trial_result(tune, trial, {"epochs": 0, "error": "ValueError"}) == CONTINUE
    assert made.reasons == {}


def test_median_says_why() -> None:
    made = build({"median": {"min_samples_required": 2}})
    tune = Controller(made)
    for i in range(2):
        tune.report(tune.add(f"t{i:05d}"), 1, 0.8)
    assert tune.report(tune.add("t00002"), 1, 0.3) == STOP
    assert made.reasons == {"t00002": "median: best so far below the others' median at epoch 1"}


def hyperband() -> tuple[Any, Controller, list[FakeTrial]]:
    """Trials 0-2 run to max_t 4 without a rung, 3-5 have one at 2, 6-9 at 1 and 2: Ray's brackets with factor 2."""
    made = build({"hyperband": {"max_t": 4, "reduction_factor": 2}})
    tune = Controller(made)
    trials = [tune.add(f"t{i:05d}") for i in range(10)]
    rungs = [made._trial_info[trial][0]._r0 for trial in trials]
    assert rungs == [4] * 3 + [2] * 3 + [1] * 4
    return made, tune, trials


def test_hyperband_says_why_it_stopped_paused_trials_too() -> None:
    """Those it stops while they are paused get no decision of their own; yet they were not trained to their end."""
    made, tune, trials = hyperband()
    decisions = [tune.report(trial, 1, value) for trial, value in zip(trials[6:], [0.9, 0.1, 0.8, 0.2], strict=True)]
    assert decisions == [PAUSE, PAUSE, PAUSE, STOP]
    assert sorted(tune.stopped) == ["t00007", "t00009"]
    assert made.reasons.keys() == {"t00007", "t00009"}
    assert all(reason.startswith("hyperband") and "epoch 1" in reason for reason in made.reasons.values())


def test_hyperband_says_that_max_t_was_reached() -> None:
    """A trial that got all of its epochs has finished: `reached` is how the recorder knows. Two of them are paused."""
    made, tune, trials = hyperband()
    for trial in trials[:3]:
        assert [tune.report(trial, epoch, 0.5) for epoch in (1, 2, 3)] == [CONTINUE] * 3
    assert [tune.report(trial, 4, 0.5) for trial in trials[:3]] == [PAUSE, PAUSE, STOP]
    assert sorted(tune.stopped) == ["t00000", "t00001", "t00002"]
    assert made.reasons == dict.fromkeys(tune.stopped, "reached max_t 4")


def test_hyperband_forgets_no_trial_that_is_being_paused() -> None:
    """Its checkpoint is still being saved when the last one of its bracket reaches max_t."""
    _, tune, trials = hyperband()
    for trial in trials[:2]:
        assert tune.report(trial, 4, 0.5) == PAUSE
    trials[1].status, trials[1].is_saving = Trial.RUNNING, True
    assert tune.report(trials[2], 4, 0.5) == STOP
    assert sorted(tune.stopped) == ["t00000", "t00001", "t00002"]


def test_hyperband_says_why_it_stopped_a_trial_that_is_being_paused() -> None:
    made, tune, trials = hyperband()
    assert tune.report(trials[4], 2, 0.1) == PAUSE
    trials[4].status, trials[4].is_saving = Trial.RUNNING, True
    assert tune.report(trials[3], 2, 0.5) == PAUSE
    assert tune.report(trials[5], 2, 0.9) == CONTINUE
    assert tune.stopped == ["t00004"]
    assert made.reasons == {"t00004": "hyperband: 0.1 at epoch 2, not among the best of its bracket"}


@pytest.mark.parametrize("failed", [False, True], ids=["ended", "failed"])
def test_hyperband_ends_paused_trials_whose_last_companion_ends(failed: bool) -> None:
    made, tune, trials = hyperband()
    for trial in trials[:2]:
        assert tune.report(trial, 4, 0.5) == PAUSE
    trials[1].status, trials[1].is_saving = Trial.RUNNING, True
    tune.report(trials[2], 3, 0.5)
    if failed:
        made.on_trial_error(tune, trials[2])
    else:
        made.on_trial_complete(tune, trials[2], said(3, 0.5))
    assert sorted(tune.stopped) == ["t00000", "t00001"]
    assert {made.reasons[name] for name in tune.stopped} == {"reached max_t 4"}


def test_a_trial_that_is_started_again_keeps_its_place() -> None:
    """As Tune starts one whose process was lost, or had to be a new one: an error, then an addition."""
    made, tune, trials = hyperband()
    bracket, _ = made._trial_info[trials[9]]
    trials[9].status = Trial.ERROR
    made.on_trial_error(tune, trials[9])
    trials[9].status = Trial.PENDING
    made.on_trial_add(tune, trials[9])
    assert made._trial_info[trials[9]][0] is bracket and trials[9] in bracket.current_trials()
    assert made.choose_trial_to_run(tune) is trials[9] and not made.reasons
    pbt = build({"pbt": {"perturbation_interval": 2, "mutations": {LR: [1, 2]}}})
    pbt._trial_state[trials[9]] = state = object()
    pbt.on_trial_add(tune, trials[9])
    assert pbt._trial_state[trials[9]] is state


def test_a_trial_that_ends_by_itself_has_no_reason() -> None:
    for kind in ("asha", "hyperband", "median"):
        made = build(kind)
        tune = Controller(made)
        trial = tune.add("t00000")
        made.on_trial_complete(tune, trial, said(1, 0.5))
        assert made.reasons == {}


# --- a resumed sweep


def curves(rng: random.Random, count: int, length: int) -> list[list[float]]:
    return [[rng.random() + 0.1 * e for e in range(length)] for _ in range(count)]


def run_trial(tune: Controller, name: str, curve: list[float]) -> tuple[int, str]:
    """Epochs that a trial got, and the reason."""
    trial = tune.add(name)
    for epoch, value in enumerate(curve, 1):
        if tune.report(trial, epoch, value) == STOP:
            return epoch, tune.scheduler.reasons[name]
    tune.scheduler.on_trial_complete(tune, trial, trial.last_result)
    return len(curve), ""


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize(
    "words", [{"asha": {"max_t": 8, "reduction_factor": 2}}, {"median": {"min_samples_required": 2}}], ids=str
)
@pytest.mark.parametrize("from_record", [False, True])
def test_a_resumed_sweep_stops_what_the_original_would_have(from_record: bool, words: Any, mode: str) -> None:
    """20 sweeps of 12 trials, cut at a random one: the rest, after a replay, ends at the same epochs."""
    rng = random.Random(5)
    stopped = 0
    for _ in range(20):
        all_of_them = curves(rng, 12, 8)
        whole = Controller(build(words, mode=mode))
        ends = [run_trial(whole, f"t{i:05d}", curve) for i, curve in enumerate(all_of_them)]
        cut = rng.randrange(3, 11)
        resumed = build(words, mode=mode)
        for i in range(cut):
            results = [(epoch, all_of_them[i][epoch - 1]) for epoch in range(1, ends[i][0] + 1)]
            if from_record:
                results = history.seen_by(resumed, results)[resumed.settings]
            history.replay(resumed, f"t{i:05d}", results, ended=True)
        assert resumed.reasons == {}  # of this attempt nothing was stopped yet
        tune = Controller(resumed)
        again = [run_trial(tune, f"t{i:05d}", all_of_them[i]) for i in range(cut, 12)]
        assert again == ends[cut:]
        stopped += sum(epochs < 8 for epochs, _ in ends[cut:])
    assert stopped > 20


@pytest.mark.parametrize("brackets, stop_last_trials", [(1, True), (3, True), (1, False)])
@pytest.mark.parametrize("mode", ["max", "min"])
def test_a_record_keeps_what_the_rungs_of_asha_record(mode: str, brackets: int, stop_last_trials: bool) -> None:
    """Also of trials with epochs that have no value, or NaN, in whichever bracket a trial is."""
    rng = random.Random(3)
    words = {"asha": {"max_t": 50, "reduction_factor": 2, "brackets": brackets, "stop_last_trials": stop_last_trials}}
    for number in range(100):
        values = [rng.choice([rng.random(), math.nan, math.inf, -math.inf, 0.5]) for _ in range(rng.randint(1, 60))]
        results = [(epoch, value) for epoch, value in enumerate(values, 1) if rng.random() < 0.8]
        rungs = []
        for _ in range(2):
            made = build(words, mode=mode)
            np.random.seed(number)  # draws the bracket
            history.replay(made, "t0", results, ended=number % 2 == 0)
            rungs.append([bracket._rungs for bracket in made._brackets])
            results = history.seen_by(made, results).get(made.settings, [])
            assert len(results) <= 6 * brackets + 1
        assert rungs[0] == rungs[1]


def test_what_a_record_keeps_is_for_one_scheduler_and_one_metric() -> None:
    results = [(epoch, 1.0 / epoch) for epoch in range(1, 1001)]
    made = [
        build(words, mode=mode, epochs=epochs)
        for words in ("asha", {"asha": {"reduction_factor": 3}}, {"asha": {"grace_period": 2}})
        for mode in ("max", "min")
        for epochs in (500, 1000, None)
    ]
    assert len({next(iter(history.seen_by(scheduler, results))) for scheduler in made}) == len(made)
    for words in ("fifo", "hyperband", "median", {"pbt": {"mutations": {LR: [1]}}}):  # median: too many
        assert history.seen_by(build(words), results) == {}
    assert history.seen_by(build("median"), results[:3]) == {build("median").settings: results[:3]}


def test_an_unfinished_trial_goes_on_where_it_was() -> None:
    """Its epochs before the interruption are in the rungs already, once, and it can still be stopped."""
    words = {"asha": {"max_t": 8, "reduction_factor": 2}}
    resumed = build(words)
    history.replay(resumed, "t00000", [(1, 0.9), (2, 0.9), (4, 0.9)], ended=True)
    history.replay(resumed, "t00001", [(1, 0.95), (2, 0.91)], ended=False)
    tune = Controller(resumed)
    trial = tune.add("t00001")
    recorded = {milestone: dict(values) for milestone, values in resumed._brackets[0]._rungs}
    assert recorded[2] == {"t00000": 0.9, "t00001": 0.91}
    assert tune.report(trial, 2, 0.91) == CONTINUE  # the epoch after its commit, reported again
    assert tune.report(trial, 3, 0.1) == CONTINUE
    assert tune.report(trial, 4, 0.1) == STOP
    assert resumed.reasons == {"t00001": "asha: 0.1 at epoch 4 against 0.9, not among the best 1/2"}


PBT = {"pbt": {"perturbation_interval": 2, "quantile_fraction": 0.5, "mutations": {LR: [0.1, 0.2]}}}


def test_pbt_clones_a_better_trial_that_reported_first() -> None:
    tune = Saving(build(PBT), 2)
    assert tune.report(0, 2, 0.9) is None
    assert tune.report(1, 2, 0.1) == "t0 at 2"
    assert tune.report(1, 4, 0.1) == "t0 at 2" and tune.saved == 1


def test_pbt_clones_a_trial_that_came_among_the_best_after_it_had_reported() -> None:
    made = build({"pbt": {**PBT["pbt"], "quantile_fraction": 0.25}})
    tune = Saving(made, 4)
    for number, value in ((2, 0.1), (0, 0.9), (1, 0.8)):  # the last one is neither among the best nor the worst
        assert tune.report(number, 2, value) is None
    assert tune.report(0, 4, 0.2) is None  # it got worse
    assert tune.report(3, 2, 0.05) == "t1 at 2"


PB2 = {"pbt": {**PBT["pbt"], "method": "pb2", "mutations": {LR: {"loguniform": [1e-3, 1e-1]}}}}


def test_pb2_clones_and_its_process_chooses_between_the_bounds() -> None:
    made = build(PB2, epochs=20)
    tune = Saving(made, 4)
    for epoch in range(2, 13, 2):
        for number in range(4):
            tune.report(number, epoch, 0.2 * number + 0.01 * epoch + tune.trials[number].config[LR])
    rates = [trial.config[LR] for trial in tune.trials]
    assert isinstance(made, population.Pb2) and type(made._hyperparam_bounds[LR][0]) is float
    assert tune.saved and len(set(rates)) > 1 and all(1e-3 <= rate <= 1e-1 for rate in rates)
    assert {type(rate) for rate in rates} == {float}


def test_pb2_that_has_seen_only_nan_takes_the_parameters_of_the_clone() -> None:
    tune = Saving(build(PB2), 2)
    assert tune.report(0, 2, 0.9) is None
    assert tune.report(1, 2, math.nan) == "t0 at 2"
    assert tune.trials[1].config == {LR: 0.1}


@pytest.mark.parametrize("words", ["fifo", "asha", "hyperband", "median", {"pbt": {"mutations": {LR: [1]}}}], ids=str)
@pytest.mark.parametrize("ended", [False, True])
def test_every_scheduler_can_be_told_of_the_past(words: Any, ended: bool) -> None:
    made = build(words)
    history.replay(made, "t00000", [], ended=ended)
    history.replay(made, "t00001", [(1, 0.5), (2, math.nan), (3, 0.7)], ended=ended)
    assert made.reasons == {}
