"""Score a run's best checkpoint on the test split, loading it afresh from storage."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from trainer_app import checkpoint as ckpt
from trainer_app import components, results
from trainer_app.callbacks.epoch import check_loadable, mean_over_ranks, safe
from trainer_app.config import RunConfig, loads, override
from trainer_app.errors import InputError, NotFound
from trainer_app.records import RunFolder
from trainer_app.results import Checkpoint, RunResults
from trainer_app.storage import Store
from trainer_app.worker import defaults


def test(store: Store, run: str) -> dict[str, Any]:
    """Download and verify the best checkpoint, build its model and data anew, and test in this process.

    Returns:
        the `test` event: {"event", "checkpoint", "trial", "metrics"}.

    Raises:
        NotFound: no checkpoint is committed. Rejected: it does not match its manifest. InputError: no test split.
    """
    found = results.read_run(store, run)
    if found.checkpoint is None:
        raise NotFound(f"run {run} has no committed checkpoint to test")
    folder = RunFolder.open(store, run)
    config = of_checkpoint(folder, found, found.checkpoint)
    chosen = found.checkpoint
    commit = ckpt.commit.read(folder.unit(chosen.trial).checkpoints, chosen.name)
    with tempfile.TemporaryDirectory(prefix="trainer-test-") as tmp:
        path = ckpt.fetch(commit, Path(tmp))
        check_loadable(path, tuple(config.checkpoint.allow))
        metrics = score(config, path, tmp)
    return {"event": "test", "checkpoint": chosen.uri, "trial": chosen.trial, "metrics": metrics}


def of_checkpoint(folder: RunFolder, found: RunResults, chosen: Checkpoint) -> RunConfig:
    """The run file that a checkpoint was trained with: the run's, with its trial's parameters."""
    unit = next(u for u in found.units if u.trial == chosen.trial)
    return override(loads(folder.config_text(), file=f"{folder.name}/run.yaml"), unit.params)


def score(config: RunConfig, path: Path, folder: str) -> dict[str, float]:
    """`Trainer.test` of one checkpoint on one device.

    Raises:
        InputError: the module or the data has no test.
    """
    kwargs = {
        **defaults(config, folder),
        "devices": 1,
        "num_nodes": 1,
        "strategy": "auto",
        "accelerator": "auto",
        "callbacks": [],
    }
    parts = components.build(config, trainer_kwargs=kwargs)
    from lightning.pytorch.utilities.exceptions import MisconfigurationException

    try:
        with safe(tuple(config.checkpoint.allow)):
            parts.trainer.test(
                parts.model, datamodule=parts.datamodule, ckpt_path=str(path), weights_only=True, verbose=False
            )
    except MisconfigurationException as e:
        raise InputError(f"this run can't be tested: {' '.join(str(e).split())}") from e
    return mean_over_ranks(parts.trainer.callback_metrics)
