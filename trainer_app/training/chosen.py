"""The commit of a run that a user means, and the module with its weights: for test, predict and export."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from trainer_app import checkpoint as ckpt
from trainer_app import lightning_cli, results
from trainer_app.checkpoint.loading import load_checkpoint
from trainer_app.checkpoint.sharded import download_whole
from trainer_app.config import RunConfig, override
from trainer_app.errors import InputError, NotFoundError
from trainer_app.lightning_cli.build import Parts
from trainer_app.records import RunFolder
from trainer_app.results import Checkpoint, RunResults
from trainer_app.run.believed import allow_override, load_stored, trial_params
from trainer_app.storage import Store
from trainer_app.temporary import temporary_folder
from trainer_app.training.strategies import one_process_strategy
from trainer_app.training.worker import QUIET
from trainer_app.user_errors import describe_error, plain_errors

# No file of a fit's: what is built here only computes.
_PLAIN: Final = {**QUIET, "logger": False}


@dataclass(frozen=True)
class Chosen:
    """A commit of a run, and the run file that it was trained with: its trial's parameters are in it."""

    folder: RunFolder
    checkpoint: Checkpoint
    config: RunConfig

    @property
    def commit(self) -> ckpt.Commit:
        """The commit with its manifest, read anew."""
        return ckpt.read_commit(self.folder.fit_folder(self.checkpoint.trial).checkpoints, self.checkpoint.name)


def choose(
    store: Store, run: str, *, trial: str | None = None, epoch: int | None = None, allow: Sequence[str] = ()
) -> Chosen:
    """Return the best commit of a run or of one of its trials, or that of an epoch.

    Args:
        trial: of a sweep; None for the best.
        epoch: counted from 1, as on screen.
        allow: classes that the checkpoint may hold; what the storage says of that does not count.

    Raises:
        NotFoundError: there is no such commit; the message says which there are.
        InputError: the storage says what it can't decide.
    """
    outcome = results.read_outcome(store, run, trial=trial)
    checkpoint = outcome.checkpoint
    if trial is not None or epoch is not None:
        checkpoint = _find(outcome, run, trial, epoch)
    if checkpoint is None:
        raise NotFoundError(f"run {run} has no committed checkpoint")
    folder = RunFolder.open(store, run)
    return Chosen(folder, checkpoint, config_of_checkpoint(folder, outcome, checkpoint, allow=allow))


def _find(outcome: RunResults, run: str, trial: str | None, epoch: int | None) -> Checkpoint | None:
    """Return the best commit of a trial, or that of an epoch."""
    if trial is None and outcome.record.task == "tune":
        raise InputError(f"--epoch goes with --trial: run {run} is a sweep")
    fit = next((fit for fit in outcome.fits if fit.trial == trial), None)
    if fit is None:
        trials = ", ".join(fit.trial for fit in outcome.trials[:10] if fit.trial) or "it has no trials"
        raise NotFoundError(f"run {run} has no trial {trial}: {trials}")
    of_epoch = [one for one in fit.checkpoints if epoch is None or one.epochs == epoch]
    if not of_epoch and fit.checkpoints:
        there = ", ".join(str(one.epochs) for one in fit.checkpoints)
        raise NotFoundError(f"run {run} has no committed checkpoint of epoch {epoch}: there are those of epoch {there}")
    return results.best_checkpoint(of_epoch, outcome.record.metric, outcome.record.mode)


def config_of_checkpoint(
    folder: RunFolder, run_results: RunResults, chosen: Checkpoint, *, allow: Sequence[str] = ()
) -> RunConfig:
    """Return the run file that a checkpoint was trained with: the run's, with its trial's parameters.

    Args:
        run_results: of the run in `folder`.
        chosen: one of its checkpoints.
        allow: as `choose`.

    Raises:
        InputError: the storage says what it can't decide: classes, or parameters that the run does not draw.
    """
    fit_folder = next(u for u in run_results.fits if u.trial == chosen.trial)
    config = load_stored(folder.read_config(), uri=folder.uri, overrides=allow_override(allow))
    return override(config, trial_params(config, fit_folder.params, trial=chosen.trial) if chosen.trial else {})


@contextmanager
def loaded_parts(chosen: Chosen, *, accelerator: str = "cpu") -> Iterator[Parts]:
    """Yield the parts of the run file on one device; the module has the commit's weights, and is in evaluation mode.

    Raises:
        CheckpointRejectedError: it does not match its manifest.
        UserError: the user's code raised something.
    """
    kwargs: dict[str, Any] = {"devices": 1, "num_nodes": 1, "strategy": "auto", "accelerator": accelerator}
    kwargs |= {"fast_dev_run": False, "limit_predict_batches": None}  # every row is predicted
    allow = chosen.config.checkpoint.allow
    with temporary_folder("checkpoint") as tmp:
        with plain_errors():
            defaults = {**_PLAIN, "default_root_dir": tmp}
            parts = lightning_cli.build_parts(chosen.config, trainer_kwargs=kwargs, defaults=defaults)
        path = download_whole(chosen.commit, Path(tmp, "commit"), allow)  # the user's enums are known only now
        with plain_errors():
            _configure(parts.model, chosen.config)
            _load_weights(parts.model, load_checkpoint(path, allow))
        yield parts


def _configure(model: Any, config: RunConfig) -> None:
    """Let a module build its layers. Raises InputError if one that is sharded does so only over a device mesh."""
    try:
        model.configure_model()
    except Exception as error:
        if one_process_strategy(config) == "auto":
            raise
        hint = "one process has no device mesh: let configure_model shard nothing if self.device_mesh is None"
        raise InputError(f"{hint}; it raised {describe_error(error)}") from error


def _load_weights(model: Any, content: dict[str, Any]) -> None:
    """Do what a Trainer does before a test: load the module's weights."""
    model.on_load_checkpoint(content)
    model.load_state_dict(content["state_dict"], strict=model.strict_loading)
    model.eval()


def reopen(store: Store, run: str, commit: str, *, trial: str | None, allow: Sequence[str] = ()) -> Chosen:
    """Return the commit of a name, which another process has chosen.

    Args:
        commit: its name. trial: None for a train run's.
        allow: as `choose`.

    Raises:
        NotFoundError: it is gone.
    """
    outcome = results.read_outcome(store, run, trial=trial)
    checkpoints = [one for fit in outcome.fits if fit.trial == trial for one in fit.checkpoints if one.name == commit]
    if not checkpoints:
        raise NotFoundError(f"run {run} has no commit {commit} any more")
    folder = RunFolder.open(store, run)
    return Chosen(folder, checkpoints[0], config_of_checkpoint(folder, outcome, checkpoints[0], allow=allow))
