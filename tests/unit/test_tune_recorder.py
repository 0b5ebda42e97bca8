"""What the sweep's recorder writes of a trial that fails."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray import cloudpickle
from ray.exceptions import RayTaskError

from tests.faulty_store import SILENT, Faults, FaultyStore
from tests.run_samples import epoch, sweep_config
from trainer_app.errors import StorageUnavailableError
from trainer_app.records import RunFolder, RunRecord
from trainer_app.records.models import MAX_TRACEBACK, STORAGE_SILENT
from trainer_app.storage import open_store
from trainer_app.tuning import schedulers
from trainer_app.tuning.process_state import FreshProcessError
from trainer_app.tuning.recorder import SweepRecorder

pytestmark = pytest.mark.unit

LONG = "Traceback (most recent call last):\n" + "  File x\n" * 5000 + "ValueError: boom"


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.create(open_store(str(tmp_path)), RunRecord(name="r", task="tune"), "")


def recorder(folder: RunFolder, emit: Callable[[dict[str, Any]], None] = lambda event: None) -> SweepRecorder:
    scheduler = SimpleNamespace(reasons={})
    return SweepRecorder(folder, emit, mode="max", scheduler=scheduler, records={}, stopping=threading.Event())


def trial(error: str | None = None, file: Path | None = None) -> Any:
    return SimpleNamespace(
        trial_id="t00000", config={"lr": 0.1}, get_error=lambda: error, pickled_error_file=file and str(file)
    )


@pytest.mark.parametrize("text", ["Traceback\nValueError: boom", LONG], ids=["short", "long"])
def test_the_traceback_of_a_failed_trial_is_kept_up_to_a_bound(folder: RunFolder, text: str) -> None:
    kept = recorder(folder)
    kept.on_trial_start(0, [], trial())
    kept.on_trial_result(0, [], trial(), {"error": "ValueError: boom", "traceback": text, "epochs": 0})
    kept.on_trial_complete(0, [], trial())
    (record,) = folder.read_trials()
    assert (record.state, record.error) == ("failed", "ValueError: boom")
    assert record.traceback == text[-MAX_TRACEBACK:] and record.traceback.endswith("ValueError: boom")


def test_so_is_that_of_a_process_that_ended(folder: RunFolder) -> None:
    kept = recorder(folder)
    kept.on_trial_start(0, [], trial())
    kept.on_trial_error(0, [], trial(LONG))
    (record,) = folder.read_trials()
    assert record.error == "ValueError: boom" and record.traceback == LONG[-MAX_TRACEBACK:]


def test_a_record_says_what_its_scheduler_learned_from_the_trial(tmp_path: Path) -> None:
    """So that a resume need not read its metrics, of which there may be 10,000 epochs."""
    config = sweep_config("asha", epochs=8)
    folder = RunFolder.create(open_store(str(tmp_path)), RunRecord(name="r", task="tune", metric="loss"), "")
    scheduler = schedulers.build(config, epochs=8)
    kept = recorder(folder)
    kept.scheduler = scheduler
    kept.on_trial_start(0, [], trial())
    for number in range(8):
        epoch(folder.fit_folder("t00000"), number, {"loss": math.nan if number == 2 else 8.0 - number})
    kept.on_trial_complete(0, [], trial())
    (record,) = folder.read_trials()
    assert record.seen == {scheduler.settings: [(1, 8.0), (4, 5.0), (8, 1.0)]}
    kept.on_trial_start(0, [], trial())
    assert folder.read_trials()[0].seen == {}  # it goes on


def silent_recorder(folder: RunFolder, *methods: str) -> tuple[SweepRecorder, Faults]:
    storage: Any = FaultyStore(folder.run_store)
    storage.faults.matches, storage.faults.always = (lambda method, key: method in methods), SILENT
    return recorder(RunFolder(storage, folder.record)), storage.faults


@pytest.mark.parametrize("methods", [("get", "list"), ("put",), ("get", "list", "put")])
@pytest.mark.parametrize("hook", ["on_trial_complete", "on_trial_error"])
def test_a_storage_that_is_silent_while_a_trial_is_closed_ends_no_hook(
    hook: str, methods: tuple[str, ...], folder: RunFolder
) -> None:
    """Tune would train a finished trial again, or end the sweep."""
    kept, faults = silent_recorder(folder, *methods)
    kept.on_trial_start(0, [], trial())
    getattr(kept, hook)(0, [], trial("ValueError: boom"))
    state = {"on_trial_complete": "finished", "on_trial_error": "failed"}[hook]
    assert kept.records["t00000"].state == state
    assert kept.stopping.is_set()  # no more trials begin, each of which would wait for it in vain
    faults.always = None
    with pytest.raises(StorageUnavailableError, match="no connection"):
        kept.flush()
    (record,) = folder.read_trials()
    assert (record.state, record.is_over) == (state, True)


def test_a_trial_that_ended_by_the_storage_is_not_over(folder: RunFolder) -> None:
    kept = recorder(folder)
    for number, text in enumerate(["no answer", "still none"]):
        kept.on_trial_start(number, [], trial())
        kept.on_trial_result(number, [], trial(), {"unavailable": text, "epochs": 0, "done": True})
        kept.on_trial_complete(number, [], trial())
    (record,) = folder.read_trials()
    assert (record.state, record.reason, record.is_over, record.error) == ("stopped", STORAGE_SILENT, False, None)
    assert kept.stopping.is_set()
    with pytest.raises(StorageUnavailableError, match=r"^no answer$"):
        kept.flush()


def test_the_event_of_a_trial_counts_epochs(folder: RunFolder) -> None:
    events: list[dict[str, Any]] = []
    kept = recorder(folder, events.append)
    kept.on_trial_start(0, [], trial())
    report = {"epochs": 2, "steps": 8, "elapsed": 1.0, "metrics": {"acc": 0.5}, "objective": 0.5, "uri": None}
    kept.on_trial_result(0, [], trial(), report)
    assert [e.get("epoch") for e in events] == [None, 1, None]  # the event `epoch` has the epoch's index
    assert [e.get("epochs") for e in events] == [0, None, 2]


def test_a_new_process_for_a_trial_is_one_line_and_no_attempt(folder: RunFolder, tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    kept, file = recorder(folder, events.append), tmp_path / "error.pkl"
    for cause in (FreshProcessError("a"), FreshProcessError("a"), FreshProcessError("b", "boom"), ValueError("lost")):
        kept.on_trial_start(0, [], trial())
        file.write_bytes(cloudpickle.dumps(RayTaskError("train", "Traceback", cause).as_instanceof_cause()))
        kept.on_trial_recover(0, [], trial(file=file))
    folder.fit_folder("t00000").take_attempt(0)
    kept.on_trial_recover(0, [], trial(file=tmp_path / "missing"))
    assert b'"its process ended"' in folder.run_store.get("trials/t00000/attempts/a0001.end.json")
    reasons = [event["reason"] for event in events if event["event"] == "retry"]
    assert [reason.partition(",")[0] for reason in reasons] == [
        "it gets a new process",
        "boom; it is tried again in a new process",
        "its process ended; starting it again",
        "its process ended; starting it again",
    ]
    kept.on_trial_start(0, [], trial())
    file.write_bytes(cloudpickle.dumps(RayTaskError("train", "Traceback", FreshProcessError("b", "ValueError: boom"))))
    kept.on_trial_error(0, [], trial("FreshProcessError: ...", file))
    (record,) = folder.read_trials()
    assert (record.attempts, record.error) == (3, "ValueError: boom")
