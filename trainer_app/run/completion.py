"""Whether a run that is resumed has nothing left to do: found out in tenths of a second, without torch and Ray."""

from __future__ import annotations

from typing import Any

from trainer_app.config import RunConfig, loads, require_tune
from trainer_app.records import RunFolder
from trainer_app.results import read_outcome
from trainer_app.run import prepare
from trainer_app.run.request import PreparedRun


def completion_event(prepared: PreparedRun) -> dict[str, Any] | None:
    """Return the event `complete` with a line for users and the event `end` for machines; None if there is more to do.

    Nothing is written.

    Raises:
        InputError, StorageError: as the run itself would, if it can't be resumed.
    """
    storage = prepared.storage
    if RunFolder.open(storage, prepared.name).record.state != "succeeded":
        return None
    folder, config = prepare.reopen_run(storage, prepared.config, name=prepared.name, task=prepared.task)
    reached = reached_trials(folder, config) if prepared.task == "tune" else reached_epochs(folder, config)
    if reached is None:
        return None
    best = read_outcome(storage, prepared.name).summary
    end = {"event": "end", "run": folder.name, "state": "succeeded", "seconds": 0.0, "best": best, "error": None}
    text = f"run {folder.name} is complete: {reached}"
    return {"event": "complete", "text": text, "end": {**end, "uri": folder.uri}}


def reached_epochs(folder: RunFolder, config: RunConfig) -> str | None:
    """Return `3 of 3 epochs; to go further: ...`; None if the end is later than what the run has reached."""
    done, target = folder.record.done, prepare.target_epochs(config)
    if done is None:
        return None
    if target is None or done < target:
        ends = ("max_epochs", "max_steps", "max_time")
        stored = loads(folder.read_config(), file=f"{folder.name}/run.yaml")
        if any(stored.trainer.get(end) != config.trainer.get(end) for end in ends):
            return None  # otherwise a callback, steps or time ended it, and would end it again
    limits = [f"trainer.{name}=M" for name in ("max_steps", "max_time") if config.trainer.get(name) not in (None, -1)]
    further = " or ".join(limits if target is None and limits else ["trainer.max_epochs=M", *limits])
    return f"{done}{f' of {target}' if target is not None else ''} epochs; to go further: {further}"


def reached_trials(folder: RunFolder, config: RunConfig) -> str | None:
    """Return `10 of 10 trials; to go further: ...`; None if trials are left, as always if only time ends the sweep."""
    total = require_tune(config).num_trials
    over = sum(record.is_over for record in folder.read_trials())
    if total is None or over < total:
        return None
    return f"{over} of {total} trials; to go further: tune.num_samples=M"
