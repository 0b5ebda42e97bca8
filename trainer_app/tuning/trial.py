"""A trial of one worker: the fit itself, in a process that the next trial uses again."""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path
from typing import Any

from ray import tune

from trainer_app import checkpoint as ckpt
from trainer_app import lightning_cli
from trainer_app.callbacks.pbt_hparams import RestoreConfiguredHparams
from trainer_app.config import RunConfig, override
from trainer_app.errors import CheckpointRejectedError, NotFoundError, StorageUnavailableError, TrainerError
from trainer_app.records import FitFolder
from trainer_app.run.retry import RetryPolicy, last_commit
from trainer_app.run.spec import RunSpec
from trainer_app.storage import store_name
from trainer_app.temporary import temporary_folder
from trainer_app.training import worker
from trainer_app.training.files import keep_files
from trainer_app.training.start import Origin
from trainer_app.tuning.objective import STOPPED, objective, reporting_silence
from trainer_app.tuning.process_state import check_process, restored_process
from trainer_app.tuning.schedulers import NEEDS_EVERY_EPOCH
from trainer_app.user_errors import FitProgress, describe_error, format_traceback, plain_errors

POINTER = "commit.json"
PBT_KEEPS = 4  # a trial that is behind still finds the commit that it has to clone


@reporting_silence()
def run(params: dict[str, Any], spec: RunSpec) -> None:
    """Run a trial of one worker in this process, again after an error that `RetryPolicy` takes for one that may pass.

    An error of the user's code is reported as the trial's result, not raised: Tune ends the process of a trial that
    raised, and starting another takes 4 s of imports.

    Raises:
        FreshProcessError: a trial has left something in this process that can't be restored.
    """
    trial = tune.get_context().get_trial_id()
    check_process()
    config = override(spec.load(), params)
    assert config.tune is not None
    lightning_cli.import_user_code(config)  # what it sets when it is imported stays for the next trial
    fit_folder = spec.fit_folder(trial)
    retries = RetryPolicy(config.failure.max_failures)
    while True:
        try:
            worker.check_device(spec)
            progress = FitProgress()
            with restored_process(), plain_errors(progress), keep_files(config, spec, trial, progress):
                if fit_here(config, fit_folder, spec, progress):
                    tune.report(STOPPED)
                return
        except StorageUnavailableError:
            raise
        except TrainerError as error:  # whatever the user's code raises is the trial's result
            message, text = describe_error(error), format_traceback(error)
            decision = retries.decide(error, last_commit(fit_folder))
            ending = "" if decision.retry else f"; not tried again: {decision.reason}"
            print(f"trial {trial} failed, time {retries.failures}{ending}\n{text}", file=sys.stderr, flush=True)
        gc.collect()  # the failed Trainer's tensors, held by the traceback until here
        if not decision.retry:
            tune.report({"error": message, "traceback": text, "epochs": 0, "done": True})
            return
        fit_folder.record_end("failed", message)
        check_process(message)


def fit_here(config: RunConfig, fit_folder: FitFolder, spec: RunSpec, progress: FitProgress) -> bool:
    """Fit in this process and report to Tune.

    Args:
        fit_folder: the trial's.
        progress: is told how far the fit came, for `plain_errors`.

    Returns:
        whether it stopped before its end, because a user asked for it.
    """
    assert config.tune is not None
    every = config.tune.scheduler.kind in NEEDS_EVERY_EPOCH
    cloned = pbt_source(fit_folder, spec)
    with temporary_folder("pointer") as tmp:
        return worker.fit(
            config,
            fit_folder,
            policy=worker.policy(config, spec, task="tune", every_epoch=every, keep_at_least=PBT_KEEPS if every else 1),
            report=make_reporter(config, fit_folder, Path(tmp)),
            trainer_kwargs=worker.one_device(spec),
            origin=cloned,
            callbacks=[RestoreConfiguredHparams()] if cloned else [],
            logged_as=(spec.run, store_name(fit_folder.store)),
            progress=progress,
        )


def make_reporter(config: RunConfig, fit_folder: FitFolder, folder: Path) -> worker.Report:
    """Return the function that reports to Tune: the objective and, for PBT, a pointer to the commit to clone.

    Args:
        fit_folder: the trial's.
        folder: a temporary one, for the pointer.
    """
    assert config.tune is not None
    pbt = config.tune.scheduler.kind == "pbt"
    trial = store_name(fit_folder.store)

    def report(result: dict[str, Any]) -> None:
        value = objective(config, result)
        if value is None:
            return
        with_objective = {**result, "objective": value}
        if not pbt:
            tune.report(with_objective)
            return
        (folder / POINTER).write_text(json.dumps({"trial": trial, "commit": result["commit"]}))
        tune.report(with_objective, checkpoint=tune.Checkpoint.from_directory(str(folder)))

    return report


def pbt_source(fit_folder: FitFolder, spec: RunSpec) -> Origin | None:
    """Return what downloads the checkpoint to start from if PBT cloned another trial, else None."""
    pointed = tune.get_checkpoint()
    if pointed is None:
        return None
    with pointed.as_directory() as folder:
        pointer = json.loads(Path(folder, POINTER).read_text())
    source = spec.fit_folder(pointer["trial"])
    if source.store.uri == fit_folder.store.uri:
        return None

    def fetch(folder: Path) -> tuple[ckpt.Commit, Path] | None:
        try:
            commit = ckpt.read_commit(source.checkpoints, pointer["commit"])
            return commit, ckpt.download_commit(commit, folder)
        except (NotFoundError, CheckpointRejectedError) as e:
            print(f"the commit to clone is gone ({e}); using the newest of {pointer['trial']}", file=sys.stderr)
            return ckpt.download_newest(source.checkpoints, folder)

    return fetch
