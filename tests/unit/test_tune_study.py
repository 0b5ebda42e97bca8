"""Optuna's samplers by name, the study beside the run, and what it knows of earlier sweeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from trainer_app.config import RunConfig, loads
from trainer_app.errors import InputError, NotFoundError
from trainer_app.records import RunFolder, RunRecord, TrialRecord, trial_name
from trainer_app.storage import Store, open_store
from trainer_app.storage.retrying import saying
from trainer_app.tuning import schedulers, study
from trainer_app.tuning.plan import plan_search
from trainer_app.tuning.study import JOURNAL, StudySearch, build_searcher

pytestmark = [pytest.mark.unit, pytest.mark.filterwarnings("ignore")]

LR, HIDDEN = "model.init_args.lr", "model.init_args.hidden"
SPACE = f"{{{LR}: {{loguniform: [0.001, 1.0]}}, {HIDDEN}: {{randint: [8, 65]}}}}"


def sweep_file(searcher: str = "optuna", space: str = SPACE, more: str = "") -> RunConfig:
    return loads(
        "model: {class_path: some.Model}\ndata: {class_path: some.Data}\nseed_everything: 3\n"
        f"tune:\n  metric: loss\n  mode: min\n  num_samples: 30\n  searcher: {searcher}\n  space: {space}\n{more}"
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "runs"))


def new_run(store: Store, name: str = "r") -> RunFolder:
    return RunFolder.create(store, RunRecord(name=name, task="tune", metric="loss", mode="min"), "")


def end_trial(folder: RunFolder, index: int, params: dict[str, Any], metrics: dict[str, float]) -> None:
    record = {"trial": trial_name(index), "index": index, "params": params, "metrics": metrics, "state": "finished"}
    folder.write_trial(TrialRecord.model_validate(record))


def run_trials(searcher: StudySearch, count: int, first: int = 0) -> list[dict[str, Any]]:
    """Ask for trials whose loss is smallest at lr 0.1 and a large layer, and tell how they ended."""
    drawn = []
    for index in range(first, first + count):
        params = dict(searcher.suggest(trial_name(index)) or {})
        loss = (params[LR] - 0.1) ** 2 + 0.001 * (64 - params[HIDDEN])
        result = {"objective": loss, "metrics": {"loss": loss, "params": float(params[HIDDEN])}}
        searcher.on_trial_complete(trial_name(index), result)
        drawn.append(params)
    return drawn


def saved(folder: RunFolder, tmp_path: Path) -> optuna.Study:
    """The study, as optuna-dashboard opens a copy of the artifact."""
    path = tmp_path / "copy.log"
    folder.run_store.get_file(JOURNAL, path)
    return optuna.load_study(study_name=folder.name, storage=JournalStorage(JournalFileBackend(str(path))))


@pytest.mark.parametrize("sampler", ["tpe", "gp", "cmaes", "nsga2", "qmc", "random"])
def test_each_sampler_proposes_by_its_seed(sampler: str, store: Store) -> None:
    config = sweep_file(f"{{optuna: {{sampler: {sampler}}}}}")
    first, again, other = (
        run_trials(build_searcher(config, new_run(store, name), seed=seed, start=0), 12)
        for name, seed in (("a", 5), ("b", 5), ("c", 6))
    )
    assert first == again != other
    assert len({str(params) for params in first}) > 8
    assert all(0.001 <= params[LR] <= 1.0 and 8 <= params[HIDDEN] <= 64 for params in first)


@pytest.mark.parametrize("sampler", ["tpe", "gp", "nsga2"])
@pytest.mark.parametrize("choices", ["[[1, 2], [3], []]", "[{x: 1}, {x: [2]}, null]", "[1, true, 1.0, '1', false, 0]"])
def test_choices_of_any_kind_are_told_apart(sampler: str, choices: str, store: Store) -> None:
    more = "population_size: 3" if sampler == "nsga2" else "n_startup_trials: 3"
    config = sweep_file(
        f"{{optuna: {{sampler: {sampler}, {more}}}}}", f"{{{HIDDEN}: {{choice: {choices}}}, {LR}: {{uniform: [0, 1]}}}}"
    )
    searcher, again = (build_searcher(config, new_run(store, name), seed=1, start=0) for name in ("a", "b"))
    drawn = []
    for index in range(12):
        params = searcher.suggest(trial_name(index)) or {}
        drawn.append(params[HIDDEN])
        searcher.on_trial_complete(trial_name(index), {"objective": float(index)})
        again.add_evaluated_point(params, float(index))  # as of an earlier attempt
    values = yaml.safe_load(choices)
    assert {repr(one) for one in drawn} <= {repr(one) for one in values} and len({repr(one) for one in drawn}) > 1
    trials = again._ot_study.trials
    assert [str(trial.params) for trial in trials] == [str(trial.params) for trial in searcher._ot_study.trials]
    with pytest.raises(ValueError):
        again.add_evaluated_point({HIDDEN: "another", LR: 0.5}, 0.0)


def test_nsga2_learns_from_several_metrics(store: Store, tmp_path: Path) -> None:
    config = sweep_file("{optuna: {sampler: nsga2, population_size: 6, metrics: {params: min}}}")
    folder = new_run(store)
    searcher = build_searcher(config, folder, seed=1, start=0)
    drawn = run_trials(searcher, 24)
    searcher.suggest("t00024")
    searcher.on_trial_complete("t00024", {"objective": 1.0, "metrics": {"loss": 1.0}})  # the other one is missing
    searcher.suggest("t00025")
    searcher.on_trial_complete("t00025", {"objective": 1.0, "metrics": {"params": float("nan")}})
    searcher.send(last=True)
    found = saved(folder, tmp_path)
    assert [direction.name for direction in found.directions] == ["MINIMIZE", "MINIMIZE"]
    assert [trial.state for trial in found.trials[-2:]] == [TrialState.FAIL, TrialState.COMPLETE]
    assert [trial.values[1] for trial in found.trials[:24]] == [params[HIDDEN] for params in drawn]
    assert 1 < len(found.best_trials) < 24 and searcher.mode == "min"


def test_the_study_of_a_resumed_sweep_has_all_trials(store: Store, tmp_path: Path) -> None:
    config, folder = sweep_file("{optuna: {n_startup_trials: 2}}"), new_run(store)
    for index in range(3):
        end_trial(folder, index, {LR: 0.1 * (index + 1), HIDDEN: 8}, {"loss": float(index)})
    records = {record.trial: record for record in folder.read_trials()}
    planned = plan_search(config, folder, records, schedulers.build(config, epochs=1), concurrency=2)
    assert isinstance(planned.searcher, StudySearch)
    run_trials(planned.searcher, 2, first=3)
    planned.close()
    trials = saved(folder, tmp_path).trials
    assert [trial.value for trial in trials[:3]] == [0.0, 1.0, 2.0] and len(trials) == 5
    assert trials[1].params == {LR: 0.2, HIDDEN: 8}


def test_trials_of_an_earlier_sweep_are_known(store: Store, tmp_path: Path) -> None:
    """Those of another space, those without the metric and those that have not ended are not."""
    earlier, other = new_run(store, "earlier"), new_run(store, "other")
    end_trial(earlier, 0, {LR: 0.1, HIDDEN: 64}, {"loss": 0.5})
    end_trial(earlier, 1, {LR: 0.1, HIDDEN: 64}, {"accuracy": 0.5})
    earlier.write_trial(TrialRecord(trial="t00002", index=2, params={LR: 0.1, HIDDEN: 8}, metrics={"loss": 0.1}))
    end_trial(other, 0, {LR: 0.1, HIDDEN: 200}, {"loss": 0.5})
    end_trial(other, 1, {LR: 0.1}, {"loss": 0.5})
    end_trial(other, 2, {LR: 0.2, HIDDEN: 16}, {"loss": 0.25})
    end_trial(other, 3, {LR: 10**400, HIDDEN: 16}, {"loss": 0.25})
    failed = TrialRecord(trial="t00004", index=4, params={LR: 0.2, HIDDEN: 16}, metrics={"loss": 0.1}, state="failed")
    other.write_trial(failed)
    more = f"  start_from: [earlier, {store.uri}/other]\nstorage: {{uri: '{store.uri}'}}\n"
    config, folder = sweep_file(more=more), new_run(store)
    study.check_searcher(config)
    searcher = build_searcher(config, folder, seed=1, start=0)
    searcher.send(last=True)
    assert [(trial.value, trial.params[HIDDEN]) for trial in saved(folder, tmp_path).trials] == [(0.5, 64), (0.25, 16)]
    other_space = f"{{{LR}: {{loguniform: [0.001, 1.0]}}}}"
    said: list[str] = []
    with saying(said.append):
        build_searcher(sweep_file(space=other_space, more=more), new_run(store, "s"), seed=1, start=0)
    assert said[0].startswith("tune.start_from: the sampler learns nothing from earlier: no trial of it has ended")
    RunFolder.create(store, RunRecord(name="trained", task="train"), "")
    with pytest.raises(InputError, match="trained is a train run; it names earlier sweeps"):
        study.check_searcher(sweep_file(more=more.replace("[earlier,", "[trained,")))
    missing = sweep_file(more=f"  start_from: [gone]\nstorage: {{uri: '{store.uri}'}}\n")
    with pytest.raises(NotFoundError, match="there is no run 'gone'"):
        study.check_searcher(missing)
