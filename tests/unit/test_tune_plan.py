"""What is left of a sweep whose records are damaged."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from tests.run_samples import sweep_config
from trainer_app.errors import InputError
from trainer_app.records import RunFolder, RunRecord, TrialRecord
from trainer_app.storage import open_store
from trainer_app.tuning import schedulers
from trainer_app.tuning.plan import plan_search

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


@pytest.mark.parametrize("state", ["finished", "running"])
@pytest.mark.parametrize(
    "params",
    [{}, {"model.init_args.lr": "x"}, {"model.init_args.lr": 10**400}, {"model.init_args.lr": 9.0}, {"a.b": 1}],
)
def test_parameters_that_are_not_the_spaces_end_no_plan(params: dict[str, Any], state: Any, tmp_path: Path) -> None:
    """Optuna refused them with a traceback. Of a trial that is left, its file is named."""
    config = sweep_config(searcher="optuna", num_samples=4)
    record = TrialRecord(trial="t00000", index=0, params=params, state=state, metrics={"loss": 1.0})
    folder = RunFolder.create(open_store(str(tmp_path)), RunRecord(name="r", task="tune", metric="loss"), "")
    folder.write_trial(record)
    with pytest.raises(InputError, match="t00000") if state == "running" and params else nullcontext():
        planned = plan_search(config, folder, {"t00000": record}, schedulers.build(config, epochs=3), concurrency=2)
        assert planned.start == 1
