"""Sweeps on a real local Ray: trials of one worker."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from tests.local.runs import Ran, run_file
from trainer_app.config import RunConfig, override
from trainer_app.errors import ConfigError, InputError
from trainer_app.tuning import pbt_checks

pytestmark = [pytest.mark.local, pytest.mark.usefixtures("ray_session")]

LR = "model.init_args.lr"


def sweep_file(storage: Path, *, changes: dict[str, Any] | None = None, epochs: int = 3, **tune: Any) -> RunConfig:
    block = {"metric": "val_acc", "mode": "max", "num_samples": 3, "space": {LR: {"loguniform": [0.01, 0.3]}}, **tune}
    return run_file(storage, tune=block, trainer={"max_epochs": epochs}, changes=changes or {})


def states(ran: Ran) -> dict[str, str]:
    return {u.trial: u.record.state for u in ran.results.trials if u.trial and u.record}


@pytest.fixture(scope="module")
def asha(tmp_path_factory: pytest.TempPathFactory, ray_session: None) -> Ran:
    """8 trials, half of them with a rate at which nothing is learned; checkpoints only every 3 epochs."""
    config = sweep_file(
        tmp_path_factory.mktemp("asha"),
        epochs=4,
        num_samples=4,
        scheduler={"asha": {"grace_period": 1, "reduction_factor": 2}},
        space={LR: {"grid_search": [0.3, 1e-9]}},
        changes={"checkpoint.every_n_epochs": 3},
        max_concurrent_trials=2,
    )
    return Ran("tune", config, "asha", test=True)


def test_asha_stops_by_epochs_whatever_the_checkpoint_cadence(asha: Ran) -> None:
    assert asha.code == 0
    trials = asha.results.trials
    assert len(trials) == 8
    stopped = [t for t in trials if t.record and t.record.state == "stopped"]
    assert stopped and all(t.epochs in (1, 2) for t in stopped)  # the rungs below max_t 4, at epochs
    assert all("asha" in t.record.reason and "epoch" in t.record.reason for t in stopped if t.record)
    finished = [t for t in trials if t.record and t.record.state == "finished"]
    assert finished and all(t.epochs == 4 for t in finished)


def test_every_epoch_of_every_trial_is_kept(asha: Ran) -> None:
    for trial in asha.results.trials:
        assert [line["epoch"] for line in trial.history] == list(range(trial.epochs))
        reported = [e for e in asha.of("epoch") if e["trial"] == trial.trial]
        assert [e["metrics"] for e in reported] == [line["metrics"] for line in trial.history]


def test_the_best_trial_is_tested_from_its_checkpoint(asha: Ran) -> None:
    best, end = asha.results.checkpoint, asha.of("end")[0]
    assert best is not None and end["best"]["checkpoint"] == best.uri
    assert asha.of("test")[0]["checkpoint"] == best.uri
    assert asha.of("test")[0]["metrics"]["test_acc"] > 0.6


def test_a_process_that_is_used_again_gives_the_metrics_of_a_fresh_one(tmp_path: Path) -> None:
    """Trial 0 raises, trials 1 and 2 follow it in one process; each equals a sweep of its own."""
    failing = {"model.init_args.fail_at": {"grid_search": [1, 99, 98]}, "model.init_args.hidden": {"choice": [8]}}
    shared = Ran("tune", sweep_file(tmp_path, space=failing, num_samples=1, max_concurrent_trials=1), "shared")
    assert shared.code == 0
    assert states(shared) == {"t00000": "failed", "t00001": "finished", "t00002": "finished"}
    failed = shared.results.trials[0].record
    assert failed and failed.traceback and "planned failure" in failed.traceback and "toy.py" in failed.traceback
    assert shared.results.record.num_samples == 3  # one sample of a grid of three
    alone = {"model.init_args.fail_at": {"choice": [99]}, "model.init_args.hidden": {"choice": [8]}}
    fresh = Ran("tune", sweep_file(tmp_path, space=alone, num_samples=1), "fresh")
    assert shared.metrics("t00001") == shared.metrics("t00002") == fresh.metrics("t00000")


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.parametrize("scheduler", ["fifo", "hyperband", "pbt"])
def test_what_can_be_set_once_gets_each_trial_a_process(tmp_path: Path, scheduler: str) -> None:
    """None fails, and none is started again as one that failed would be: max_failures is 0."""
    args: dict[str, Any] = {
        "hyperband": {"max_t": 4, "reduction_factor": 2},
        "pbt": {"perturbation_interval": 2, "mutations": {LR: [0.01, 0.1]}},
    }
    block = {"scheduler": {scheduler: args.get(scheduler, {})}} if scheduler != "fifo" else {"max_concurrent_trials": 1}
    root = {"trainer.default_root_dir": str(tmp_path), "failure.max_failures": 0}
    config = sweep_file(tmp_path / "runs", num_samples=4, epochs=4, changes=root, **block)
    ran = Ran("tune", override(config, {"model.class_path": "tests.local.toy.Lasting"}), scheduler)
    assert ran.code == 0 and set(states(ran).values()) <= {"finished", "stopped"}
    pids = {trial: {m["pid"] for m in ran.metrics(trial)} for trial in states(ran)}
    if scheduler == "fifo":
        assert all(len(seen) == 1 for seen in pids.values()) and len(set.union(*pids.values())) == 4
        assert [t.record.attempts for t in ran.results.trials if t.record] == [1] * 4
    lines = [e["reason"] for e in ran.of("retry")]
    assert (lines or scheduler != "fifo") and all(
        "it gets a new process" in line and "torch.set_num_interop_threads" in line for line in lines
    )


def test_a_sweep_whose_trials_all_fail_has_failed(tmp_path: Path) -> None:
    ran = Ran("tune", sweep_file(tmp_path, num_samples=2, changes={"tune.metric": "val_accuracy"}), "bad")
    assert ran.code == 1 and ran.results.record.state == "failed"
    error = ran.results.record.error or ""
    assert "all 2 trials failed" in error and "'val_accuracy' is not logged" in error and "val_acc," in error


def test_a_lost_trial_goes_on_from_its_commit(tmp_path: Path) -> None:
    once = str(tmp_path / "killed")
    changes = {"model.init_args.kill_at": 2, "model.init_args.once": once}
    hit = Ran("tune", sweep_file(tmp_path / "r", num_samples=1, changes=changes), "hit")
    calm = Ran("tune", sweep_file(tmp_path / "r", num_samples=1), "calm")
    assert hit.code == 0 and Path(once).exists()
    assert hit.metrics("t00000") == calm.metrics("t00000")
    attempts = sorted(p.name for p in Path(tmp_path, "r/hit/trials/t00000/metrics").iterdir())
    assert attempts == ["a0001-0000.jsonl", "a0002-0000.jsonl"]
    second = Path(tmp_path, "r/hit/trials/t00000/metrics", attempts[1]).read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in second] == [2]


def test_hyperband_pauses_trials_and_takes_them_up_where_they_were(tmp_path: Path) -> None:
    config = sweep_file(tmp_path, epochs=4, num_samples=4, scheduler={"hyperband": {"max_t": 4, "reduction_factor": 2}})
    ran = Ran("tune", config, "hb")
    assert ran.code == 0 and set(states(ran).values()) <= {"finished", "stopped"}
    for trial in ran.results.trials:
        seen = [e["epoch"] for e in ran.of("epoch") if e["trial"] == trial.trial]
        assert seen == list(range(trial.epochs))  # no epoch twice, none left out
    assert max(t.epochs for t in ran.results.trials) == 4


def test_median_stopping_ends_what_is_below_the_others(tmp_path: Path) -> None:
    config = sweep_file(
        tmp_path,
        epochs=4,
        num_samples=1,
        scheduler={"median": {"grace_period": 2, "min_samples_required": 2}},
        space={LR: {"grid_search": [0.2, 0.21, 0.22, 1e-9]}},
        max_concurrent_trials=1,
    )
    ran = Ran("tune", config, "median")
    assert states(ran)["t00003"] == "stopped"
    worst = ran.results.trials[3]
    assert worst.epochs < 4 and worst.record and worst.record.reason.startswith("median")


@pytest.fixture(scope="module")
def pbt(tmp_path_factory: pytest.TempPathFactory, ray_session: None) -> Ran:
    folder = tmp_path_factory.mktemp("pbt")
    config = sweep_file(
        folder,
        epochs=6,
        num_samples=1,
        changes={"model.init_args.meet": str(folder / "meet")},
        scheduler={
            "pbt": {
                "perturbation_interval": 2,
                "quantile_fraction": 0.5,
                "resample_probability": 0.0,
                "mutations": {LR: {"loguniform": [1e-4, 1.0]}, "model.init_args.weight_decay": [0.001, 0.002, 0.004]},
            }
        },
        space={LR: {"grid_search": [0.3, 1e-4]}, "model.init_args.weight_decay": {"choice": [0.002]}},
    )
    return Ran("tune", config, "pbt")


def test_after_an_exploit_the_optimizer_has_the_mutated_values(pbt: Ran) -> None:
    """`lr` and `weight_decay` are logged from the optimizer's own param_groups at each epoch's end."""
    assert pbt.code == 0
    exploited = []
    for trial in pbt.results.trials:
        assert trial.record is not None
        used = [(line["metrics"]["lr"], line["metrics"]["weight_decay"]) for line in trial.history]
        changed = [epoch for epoch in range(1, len(used)) if used[epoch] != used[epoch - 1]]
        exploited += changed
        wanted = (trial.record.params[LR], trial.record.params["model.init_args.weight_decay"])
        assert used[-1] == pytest.approx(wanted, rel=1e-5)
    assert exploited and all(epoch % 2 == 0 for epoch in exploited)  # at perturbation intervals, never in between


def test_an_exploit_goes_on_from_the_other_trials_weights(pbt: Ran) -> None:
    """The slow learner jumps to the fast one's accuracy in the epoch after the exploit."""
    slow = pbt.metrics("t00001")
    assert [m["lr"] for m in slow[:2]] == pytest.approx([1e-4, 1e-4])
    jump = next(e for e in range(1, 6) if slow[e]["lr"] > 1e-2)
    assert slow[jump]["train/loss"] < slow[jump - 1]["train/loss"] - 0.1


def test_a_scheduled_rate_keeps_its_place_after_an_exploit() -> None:
    import torch

    from trainer_app.callbacks.pbt_hparams import apply_hparams, rebase_scheduler

    weight = torch.nn.Parameter(torch.zeros(1))
    old = torch.optim.SGD([weight], lr=0.1, weight_decay=0.5)
    scheduler = torch.optim.lr_scheduler.StepLR(old, 1, 0.5)
    old.step(), scheduler.step()
    new = torch.optim.SGD([weight], lr=0.4, weight_decay=0.1)
    torch.optim.lr_scheduler.StepLR(new, 1, 0.5)
    apply_hparams(old.param_groups[0], new.param_groups[0])
    rebase_scheduler(scheduler)
    assert old.param_groups[0]["lr"] == pytest.approx(0.2) and old.param_groups[0]["weight_decay"] == 0.1
    old.step(), scheduler.step()
    assert old.param_groups[0]["lr"] == pytest.approx(0.1)


def test_a_space_that_does_not_fit_the_code_makes_no_run(tmp_path: Path) -> None:
    config = sweep_file(tmp_path / "r", space={"model.init_args.hidden": {"choice": [8, "wide"]}})
    with pytest.raises(ConfigError, match=r"tune\.space\.model\.init_args\.hidden: .*found 'wide'"):
        Ran("tune", config, "bad")
    assert not (tmp_path / "r").exists()


def test_a_mutation_that_changes_shapes_is_refused_by_key(tmp_path: Path) -> None:
    mutations = {"model.init_args.hidden": [8, 16], LR: {"uniform": [0.1, 0.2]}}
    config = sweep_file(
        tmp_path,
        scheduler={"pbt": {"mutations": mutations}},
        space={"model.init_args.hidden": {"choice": [8]}, LR: {"choice": [0.1]}},
    )
    with pytest.raises(ConfigError) as refused:
        pbt_checks.check_mutations(config)
    (problem,) = refused.value.problems
    assert problem.key == "tune.scheduler.pbt.mutations.model.init_args.hidden"
    assert "net.0.bias" in problem.message


def test_optuna_proposes_and_learns_and_the_best_runs_again_with_other_seeds(tmp_path: Path) -> None:
    searcher, repeat = {"optuna": {"n_startup_trials": 2}}, {"best": 1, "seeds": 2}
    config = sweep_file(tmp_path, epochs=1, num_samples=6, searcher=searcher, repeat=repeat, max_concurrent_trials=1)
    ran = Ran("tune", config, "optuna")
    trials = ran.results.trials
    rates = [t.params[LR] for t in trials[:6]]
    assert ran.code == 0 and len(set(rates)) == 6 and all(0.01 <= r <= 0.3 for r in rates)
    best = max(trials[:6], key=lambda t: t.best.value if t.best else 0.0)
    assert [t.params for t in trials[6:]] == [{**best.params, "seed_everything": 7 + n} for n in (1, 2)]
    assert len({ran.history(t.trial)[0]["metrics"]["train/loss"] for t in (best, *trials[6:])}) == 3
    (journal,) = (tmp_path / "optuna/artifacts/optuna").iterdir()
    known = optuna.load_study(study_name="optuna", storage=JournalStorage(JournalFileBackend(str(journal)))).trials
    assert [trial.params[LR] for trial in known] == rates and all(trial.value is not None for trial in known)


@pytest.mark.full
def test_a_time_budget_ends_the_sweep_and_a_resume_goes_on(tmp_path: Path) -> None:
    changes = {"model.init_args.sleep": 2.0}
    config = sweep_file(tmp_path, epochs=8, num_samples=-1, time_budget_s=18, changes=changes, max_concurrent_trials=2)
    first = Ran("tune", config, "budget")
    assert first.code == 0
    trials = first.results.trials
    ended = [t for t in trials if t.record and t.record.reason == "time budget"]
    # By commits: a trial may be cut off between an epoch's line of metrics and its commit.
    cut = {t.trial: t.checkpoints[-1].epochs if t.checkpoints else 0 for t in ended}
    assert cut and set(states(first).values()) <= {"stopped", "finished"}
    whole = {"tune.num_samples": len(trials), "tune.time_budget_s": None}  # else it would be cut again, perhaps early
    again = Ran("tune", override(config, whole), "budget", resume=True)
    assert again.code == 0 and set(states(again).values()) == {"finished"}
    seen = {e["trial"]: e["epoch"] for e in reversed(again.of("epoch"))}  # the first epoch of each trial
    for trial, epochs in cut.items():
        assert seen.get(trial, 8) == epochs  # goes on with the epoch after the last commit; after the last of 8, none


def test_trials_that_can_never_fit_are_refused(tmp_path: Path) -> None:
    config = sweep_file(tmp_path / "r", resources_per_trial={"CPU": 64})
    with pytest.raises(InputError, match="a trial needs 64 CPU at once but this Ray has 4"):
        Ran("tune", config, "big")


@pytest.mark.full
def test_the_same_seed_draws_the_same_trials(tmp_path: Path, asha: Ran) -> None:
    a = Ran("tune", sweep_file(tmp_path, epochs=1), "a")
    b = Ran("tune", sweep_file(tmp_path, epochs=1), "b")
    assert [t.params for t in a.results.trials] == [t.params for t in b.results.trials]
    assert [a.metrics(t.trial) for t in a.results.trials] == [b.metrics(t.trial) for t in b.results.trials]


def test_a_population_larger_than_the_cluster_is_one_population(tmp_path: Path) -> None:
    """Two trials at once, four in all: the two that learn nothing are exploited, and no epoch is trained twice."""
    mutations = {LR: {"loguniform": [1e-6, 1.0]}}
    config = sweep_file(
        tmp_path,
        epochs=6,
        num_samples=1,
        resources_per_trial={"CPU": 2},
        scheduler={"pbt": {"perturbation_interval": 2, "resample_probability": 0.0, "mutations": mutations}},
        space={LR: {"grid_search": [0.3, 0.25, 1e-6, 1e-5]}},
    )
    ran = Ran("tune", config, "many")
    assert ran.code == 0 and set(states(ran).values()) == {"finished"}
    assert all(t.epochs == 6 for t in ran.results.trials)
    assert len(ran.of("epoch")) <= 4 * 6 + 4  # an exploit may go back by an interval, not for ever
    rates = [t.history[-1]["metrics"]["lr"] for t in ran.results.trials]
    assert max(rates[2:]) > 1e-2


def test_hyperband_halves_a_bracket_larger_than_the_cluster(tmp_path: Path) -> None:
    config = sweep_file(
        tmp_path,
        epochs=4,
        num_samples=6,
        resources_per_trial={"CPU": 2},
        scheduler={"hyperband": {"max_t": 4, "reduction_factor": 2}},
    )
    ran = Ran("tune", config, "hb6")
    assert ran.code == 0
    ended = {t.trial: (t.epochs, t.record.reason) for t in ran.results.trials if t.record}
    culled = [reason for epochs, reason in ended.values() if epochs < 4]
    assert culled and all("not among the best of its bracket" in reason for reason in culled)
    assert any(reason == "reached max_t 4" for _, reason in ended.values())


def test_a_sweep_that_validates_every_second_epoch(tmp_path: Path) -> None:
    config = sweep_file(tmp_path, epochs=4, num_samples=1, changes={"trainer.check_val_every_n_epoch": 2})
    ran = Ran("tune", config, "sparse")
    assert ran.code == 0
    assert [("val_acc" in m) for m in ran.metrics("t00000")] == [False, True, False, True]
