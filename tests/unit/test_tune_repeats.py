"""The best trials again with other seeds: which, when, and what they say of the mean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ray.tune.experiment import Experiment
from scipy import stats

from trainer_app import results
from trainer_app.__main__ import main
from trainer_app.config import RunConfig, loads, override
from trainer_app.errors import ConfigError, InputError
from trainer_app.records import RunFolder, RunRecord, TrialRecord, trial_name
from trainer_app.results.repeats import confidence_interval, repeated_trials
from trainer_app.run.believed import trial_params
from trainer_app.storage import open_store
from trainer_app.tuning import schedulers
from trainer_app.tuning.plan import plan_search
from trainer_app.tuning.search import ResumableSearch

pytestmark = pytest.mark.unit
LR = "model.init_args.lr"
BEST = {0: 0.2, 1: 0.9, 2: None, 3: 0.7}  # by trial; the third one failed


def sweep_file(
    more: str = "repeat: {best: 2, seeds: 3}", scheduler: str = "fifo", searcher: str = "random"
) -> RunConfig:
    return loads(
        "model: {class_path: some.Model}\nseed_everything: 10\ntrainer: {max_epochs: 4}\n"
        f"tune: {{metric: acc, mode: max, num_samples: 4, scheduler: {scheduler}, searcher: {searcher}, "
        f"space: {{{LR}: {{uniform: [0.0, 1.0]}}}}, {more}}}\n"
    )


def new_run(folder: Path) -> RunFolder:
    return RunFolder.create(open_store(str(folder)), RunRecord(name="r", task="tune", metric="acc", mode="max"), "")


def end_trial(folder: RunFolder, index: int, params: dict[str, Any], best: float | None) -> TrialRecord:
    state: Any = "failed" if best is None else "finished"
    about: dict[str, Any] = {"best": best, "best_epoch": 0, "epochs": 1, "ended": 1.0, "state": state}
    record = TrialRecord(trial=trial_name(index), index=index, params=params, **about)
    folder.write_trial(record)
    return record


def planned(folder: RunFolder, config: RunConfig, records: dict[str, TrialRecord]) -> ResumableSearch:
    plan = plan_search(config, folder, records, schedulers.build(config, epochs=4), concurrency=99)
    plan.add_configurations(Experiment("sweep", run=lambda config: None, config={}))
    return plan


def take(plan: ResumableSearch) -> dict[str, dict[str, Any]]:
    return {trial.trial_id: trial.config for trial in iter(plan.next_trial, None)}


@pytest.mark.parametrize("searcher", ["random", "{optuna: {n_startup_trials: 2}}"])
def test_the_best_run_again_when_all_others_have_ended(tmp_path: Path, searcher: str) -> None:
    folder, config = new_run(tmp_path), sweep_file(searcher=searcher)
    records: dict[str, TrialRecord] = {}
    plan = planned(folder, config, records)
    assert plan.total == 10
    first = take(plan)
    assert list(first) == [trial_name(index) for index in range(4)]
    for index, best in BEST.items():
        assert take(plan) == {} and not plan.is_finished()
        name = trial_name(index)
        records[name] = end_trial(folder, index, first[name], best)
        plan.on_trial_complete(name, {"objective": best} if best else None, best is None)
    repeats = take(plan)
    assert [(name, params["seed_everything"]) for name, params in repeats.items()] == [
        (trial_name(4 + number), 11 + number % 3) for number in range(6)
    ]
    assert [params[LR] for params in repeats.values()] == [first["t00001"][LR]] * 3 + [first["t00003"][LR]] * 3
    assert plan.is_finished()
    plan.on_trial_complete("t00004", {"objective": 0.5})
    records["t00004"] = end_trial(folder, 4, repeats["t00004"], 0.5)
    again = planned(folder, config, records)  # killed after the first of them
    assert take(again) == {name: params for name, params in repeats.items() if name > "t00004"}


def test_fewer_good_trials_give_fewer_repeats(tmp_path: Path) -> None:
    folder, config = new_run(tmp_path), sweep_file("repeat: {best: 4, seeds: 2}")
    records: dict[str, TrialRecord] = {}
    plan = planned(folder, config, records)
    for index, name in enumerate(take(plan)):
        records[name] = end_trial(folder, index, {LR: 0.1 * index}, 0.5 if index == 1 else None)
        plan.on_trial_complete(name, None, error=index != 1)
    assert list(take(plan)) == ["t00004", "t00005"] and plan.is_finished()


def test_equal_parameters_are_repeated_once_and_seeds_end_at_32_bits(tmp_path: Path) -> None:
    """The same parameters and seed again would make an interval narrow."""
    folder, config = new_run(tmp_path), override(sweep_file(), {"seed_everything": 2**32 - 2})
    records: dict[str, TrialRecord] = {}
    plan = planned(folder, config, records)
    for index, name in enumerate(take(plan)):
        records[name] = end_trial(folder, index, {LR: [0.1, 0.1, 0.3, 0.2][index]}, [0.9, 0.8, 0.7, 0.6][index])
        plan.on_trial_complete(name, {"objective": 0.5})
    repeats = list(take(plan).values())
    assert [params[LR] for params in repeats] == [0.1] * 3 + [0.3] * 3
    assert [params["seed_everything"] for params in repeats[:3]] == [2**32 - 1, 0, 1]


def test_nobody_stops_a_repeat_before_the_trials_end() -> None:
    made = schedulers.build(sweep_file(scheduler="{asha: {max_t: 3, grace_period: 1}}"), epochs=4)
    trial = type("Trial", (), {"trial_id": "t9", "config": {LR: 0.1, "seed_everything": 11}})()
    said = [made.on_trial_result(None, trial, {"epochs": epoch, "objective": 0.0}) for epoch in (1, 2, 3)]
    assert said == ["CONTINUE", "CONTINUE", "STOP"] and made.reasons == {"t9": "reached epoch 3"}


@pytest.mark.parametrize("wrong", ["scheduler: hyperband", "num_samples: -1, time_budget_s: 5"])
def test_what_has_no_end_is_not_repeated(wrong: str) -> None:
    text = f"model: {{class_path: some.Model}}\ntune: {{metric: acc, mode: max, repeat: {{best: 1}}, {wrong}, "
    with pytest.raises(ConfigError, match="repeat needs the end of the other trials"):
        loads(f"{text}space: {{{LR}: {{uniform: [0, 1]}}}}}}\n")


def test_a_stored_seed_is_believed_of_a_repeat_only() -> None:
    params = {LR: 0.5, "seed_everything": 12}
    assert trial_params(sweep_file(), params, trial="t00004") == params
    for config, value in ((sweep_file("reuse_processes: true"), 12), (sweep_file(), "12"), (sweep_file(), True)):
        with pytest.raises(InputError, match="its parameter seed_everything is not the run's"):
            trial_params(config, {**params, "seed_everything": value}, trial="t00004")


def test_the_interval_is_students() -> None:
    for values in ([1.0, 2.0], [0.5, 0.7, 0.6, 0.9], [float(n % 7) for n in range(30)]):
        interval = stats.t.interval(0.95, len(values) - 1, loc=sum(values) / len(values), scale=stats.sem(values))
        assert confidence_interval(values) == pytest.approx(interval, rel=1e-3)


def test_results_show_the_mean_of_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = new_run(tmp_path)
    end_trial(folder, 0, {LR: 0.1}, 0.9)
    end_trial(folder, 1, {LR: 0.2}, 0.5)
    for number, best in enumerate((0.6, 0.8, 0.7)):
        end_trial(folder, 2 + number, {LR: 0.1, "seed_everything": 11 + number}, best)
    for index in range(5):
        metrics = {"acc": [0.9, 0.5, 0.6, 0.8, 0.7][index]}
        folder.fit_folder(trial_name(index)).append_epoch(1, {"epoch": 0, "metrics": metrics})
    (one,) = repeated_trials(results.read_run(open_store(str(tmp_path)), "r"))
    assert (one.trial, one.value, one.seeds) == ("t00000", 0.9, [11, 12, 13])
    assert [one.mean, one.low, one.high] == pytest.approx([0.7, 0.4516, 0.9484], abs=1e-3)
    assert main(["results", f"{tmp_path}/r"]) == 0
    shown = capsys.readouterr().out
    assert "95 % interval" in shown and "0.4516 to 0.9484" in shown
    assert main(["results", f"{tmp_path}/r", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["repeats"][0]["values"] == [0.6, 0.8, 0.7]
