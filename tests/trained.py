"""A run, or a trial of it, trained in this process: no Ray."""

from __future__ import annotations

from typing import Any

from trainer_app.callbacks.epoch import Policy
from trainer_app.config import RunConfig, dump
from trainer_app.records import RunFolder, RunRecord
from trainer_app.storage import Store
from trainer_app.training import worker


def trained_run(
    store: Store,
    config: RunConfig,
    *,
    trial: str | None = None,
    run: str = "r",
    allow: tuple[str, ...] = (),
    **record: Any,
) -> RunFolder:
    """Train run `run`, or `trial` of it, and keep every commit; `record` is of run.json."""
    if store.exists(f"{run}/run.json"):
        folder = RunFolder.open(store, run)
    else:
        about = RunRecord(name=run, task="tune" if trial else "train", state="succeeded", **record)
        folder = RunFolder.create(store, about, dump(config))
    worker.fit(
        config,
        folder.fit_folder(trial),
        policy=Policy(keep=None, allow=allow),
        report=lambda said: None,
        trainer_kwargs={"devices": 1, "accelerator": "cpu"},
    )
    return folder
