"""How a run ended, from its records: the requests and the memory do not grow with the epochs of a sweep."""

from __future__ import annotations

from functools import partial

from trainer_app.errors import CheckpointRejectedError, NotFoundError, StorageError
from trainer_app.metric_order import best_of, is_better, sort_key
from trainer_app.records import RunFolder, TrialRecord
from trainer_app.records.manifest import MANIFEST
from trainer_app.records.models import parse_trial_record
from trainer_app.results.load import best_line, get_all, read_checkpoint, read_run
from trainer_app.results.model import ARTIFACTS, Artifact, Best, Checkpoint, FitResults, RunResults, best_checkpoint
from trainer_app.storage import Store
from trainer_app.storage.parallel import map_parallel


def read_outcome(storage: Store, run: str, *, trial: str | None = None) -> RunResults:
    """Read what the end of a run says: what is done, the best, and its checkpoint.

    Of a sweep the trials' records are read, the metrics of those that did not end, and the manifests of the best.
    So its `fits` have no checkpoints, and no history but the last epoch of a trial that did not end.

    Args:
        storage: the whole storage.
        run: the run's name.
        trial: the one that is read in full, if any.

    Raises:
        NotFoundError: there is no such run.
        StorageError: no answer, or run.json is damaged.
    """
    folder = RunFolder.open(storage, run)
    if folder.record.task != "tune":
        return read_run(storage, run)
    problems = [folder.problem] if folder.problem else []
    read = partial(_read_trial, folder, problems, trial)
    fits = list(map_parallel(read, folder.run_store.list_folders("trials")))
    fits.sort(key=lambda fit: fit.record.index if fit.record else -1)
    best = best_of(((_value(fit), fit.best) for fit in fits), folder.record.mode)
    artifacts = [Artifact(entry.key, entry.size) for entry in folder.run_store.list(ARTIFACTS)]
    checkpoint = _find_checkpoint(folder, fits, problems)
    return RunResults(folder.uri, folder.record, fits, best, checkpoint, list(dict.fromkeys(problems)), artifacts)


def _read_trial(folder: RunFolder, problems: list[str], whole: str | None, trial: str) -> FitResults:
    record: TrialRecord | None = None
    key = f"trials/{trial}/trial.json"
    try:
        record = parse_trial_record(folder.run_store.get(key), trial, key)
    except NotFoundError:
        record = None  # its first line of metrics came before its record
    except StorageError as error:
        problems.append(str(error))
    fit = FitResults(trial, record, [], [], None)
    if trial != whole and record and fit.ended and (record.best is not None or record.ended is not None):
        if record.best is None:
            return fit
        epoch = record.epochs - 1 if record.best_epoch is None else record.best_epoch
        return FitResults(trial, record, [], [], Best(trial, epoch, record.best, record.params, record.metrics))
    try:
        lines = folder.fit_folder(trial).read_metrics(lambda text: problems.append(f"trials/{trial}/{text}"))
    except StorageError as error:
        problems.append(str(error))
        return fit
    best = best_line(lines, folder.record, trial, record)
    if trial == whole:
        return FitResults(trial, record, lines, _read_checkpoints(folder, trial, problems), best)
    return FitResults(trial, record, lines[-1:], [], best)


def _value(fit: FitResults) -> float | None:
    return fit.best.value if fit.best else None


def _find_checkpoint(folder: RunFolder, fits: list[FitResults], problems: list[str]) -> Checkpoint | None:
    """Return the best checkpoint: trials are looked at from the best on, while the next may have a better one."""
    metric, mode = folder.record.metric, folder.record.mode
    best: Checkpoint | None = None
    for fit in sorted(fits, key=lambda fit: sort_key(_value(fit), mode)):
        if best is not None and not is_better(_value(fit), best.metrics.get(metric or ""), mode):
            break
        best = best_checkpoint(
            [*([best] if best else []), *_read_checkpoints(folder, fit.trial, problems)], metric, mode
        )
    return best


def _read_checkpoints(folder: RunFolder, trial: str | None, problems: list[str]) -> list[Checkpoint]:
    store, prefix = folder.run_store, f"trials/{trial}/checkpoints"
    sizes = {f"{prefix}/{entry.key}": entry.size for entry in store.list(prefix)}
    keys = [key for key in sizes if key.endswith(f"/{MANIFEST}") and key.count("/") == 4]
    checkpoints = []
    for key, data in get_all(store, keys, problems).items():
        try:
            checkpoints.append(read_checkpoint(store, trial, key, data, sizes))
        except CheckpointRejectedError as error:
            problems.append(str(error))
    return sorted(checkpoints, key=lambda checkpoint: (checkpoint.step, checkpoint.name))
