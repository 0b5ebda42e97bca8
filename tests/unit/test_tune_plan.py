"""What is left of a sweep whose records are damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.run_samples import sweep_config
from trainer_app.records import RunFolder, RunRecord, TrialRecord
from trainer_app.storage import open_store
from trainer_app.tune import schedulers
from trainer_app.tune.plan import plan_search

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("searcher", ["random", "optuna"])
@pytest.mark.parametrize("damage", [b"", b"{", b"null", b"[]", b"\xff", b'{"trial": 7}'])
def test_a_damaged_record_costs_nothing_but_itself(damage: bytes, searcher: str, tmp_path: Path) -> None:
    """Drawn again it resumes from its own commits; a trial that Optuna proposed can't be, and its number stays its."""
    config = sweep_config(searcher=searcher, num_samples=4)
    folder = RunFolder.create(
        open_store(str(tmp_path)), RunRecord(name="r", task="tune", metric="loss", mode="min"), ""
    )
    fresh = plan_search(config, folder, {}, schedulers.build(config, epochs=3), concurrency=2)
    drawn = [] if fresh.searcher else list(fresh.draws)
    for index in range(3):
        params = drawn[index] if drawn else {"model.init_args.lr": 0.5}
        folder.write_trial(TrialRecord(trial=f"t{index:05d}", index=index, params=params, state="finished"))
        folder.fit_folder(f"t{index:05d}").append_epoch(1, {"epoch": 0, "metrics": {"loss": 1.0}})
    folder.run_store.put("trials/t00002/trial.json", damage)
    folder.run_store.put("trials/t00000/metrics/a0002-0000.jsonl", damage)
    records = {record.trial: record for record in folder.read_trials()}
    assert sorted(records) == ["t00000", "t00001"]
    planned = plan_search(config, folder, records, schedulers.build(config, epochs=3), concurrency=2)
    assert planned.unfinished == ([(2, drawn[2])] if searcher == "random" else [])
    assert (planned.start, planned.total) == (3, 4)
