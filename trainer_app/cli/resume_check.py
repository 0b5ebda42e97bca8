"""`--resume` of a run that has nothing left to do: told in tenths of a second, without torch and Ray."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer_app.config import RunConfig, loads, require_tune
from trainer_app.records import RunFolder, to_json
from trainer_app.results import read_run
from trainer_app.run import prepare
from trainer_app.storage import open_store

if TYPE_CHECKING:
    from trainer_app.cli.arguments import Prepared


def told(task: str, prepared: Prepared, *, as_json: bool) -> bool:
    """Whether the run is complete; if so, it is said: a line, or the event `end`. Nothing is written.

    Raises:
        InputError, StorageError: as the run itself would, on a resume that is refused.
    """
    store = open_store(prepared.config.storage.uri)
    if RunFolder.open(store, prepared.name).record.state != "succeeded":
        return False
    folder, config = prepare.reopen_run(store, prepared.config, name=prepared.name, task=task)
    words = trials(folder, config) if task == "tune" else epochs(folder, config)
    if words is None:
        return False
    if as_json:
        best = read_run(store, prepared.name).summary
        end = {"event": "end", "run": folder.name, "state": "succeeded", "seconds": 0.0, "best": best, "error": None}
        print(to_json({**end, "uri": folder.uri}).decode())
    else:
        print(f"run {folder.name} is complete: {words}")
    return True


def epochs(folder: RunFolder, config: RunConfig) -> str | None:
    """`3 of 3 epochs; to go further: ...`, or None if there is more to train: a later end than the run has reached."""
    done, target = folder.record.done, prepare.target_epochs(config)
    if done is None:
        return None
    if target is None or done < target:
        ends = ("max_epochs", "max_steps", "max_time")
        stored = loads(folder.config_text(), file=f"{folder.name}/run.yaml")
        if any(stored.trainer.get(end) != config.trainer.get(end) for end in ends):
            return None  # otherwise a callback, steps or time ended it, and would end it again
    limits = [f"trainer.{name}=M" for name in ("max_steps", "max_time") if config.trainer.get(name) not in (None, -1)]
    further = " or ".join(limits if target is None and limits else ["trainer.max_epochs=M", *limits])
    return f"{done}{f' of {target}' if target is not None else ''} epochs; to go further: {further}"


def trials(folder: RunFolder, config: RunConfig) -> str | None:
    """`10 of 10 trials; to go further: ...`, or None if there are more; with time as its only end there are always."""
    total = require_tune(config).num_trials
    over = sum(record.is_over for record in folder.trials())
    if total is None or over < total:
        return None
    return f"{over} of {total} trials; to go further: tune.num_samples=M"
