"""The runs that W&B, MLflow and TensorBoard keep: one for each fit, named after it, the same one for every attempt."""

from __future__ import annotations

import copy
import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import MLFlowLogger

from trainer_app.callbacks import ranks
from trainer_app.config import RunConfig
from trainer_app.formatting import one_line
from trainer_app.records import FitFolder
from trainer_app.run import documents
from trainer_app.storage_uri import parse_scheme

_log = logging.getLogger(__name__)
RECORD: Final = "loggers.json"  # beside a fit's metrics: the id of each logger's run
_LIGHTNING: Final = ("lightning.", "pytorch_lightning.")
_DUMMY: Final = "lightning.pytorch.loggers.logger.DummyLogger"
_ALLOW_FILES: Final = "MLFLOW_ALLOW_FILE_STORE"  # MLFlowLogger's default is a folder, which MLflow 3 else refuses
_RELATIVE: Final = re.compile(r"(file:|sqlite:///|(?=\.))(?!/)(.+)")
_LISTS: Final = (list, tuple)


Fit = tuple[str, str | None]  # the run, and the trial that is fitted: None in a train run


def name_runs(config: RunConfig, fit_folder: FitFolder, fit: Fit | None) -> tuple[RunConfig, list[Callback]]:
    """Name and group the runs of the loggers that a run file names, where it leaves that open.

    An attempt after the first one gets the ids that were recorded.

    Args:
        fit_folder: has the record.
        fit: what they are named after; None to leave them as they are.

    Returns:
        the run file, and the callback that records the ids, if there are loggers.
    """
    written = config.trainer.get("logger")
    if not fit or not written or isinstance(written, bool):
        return config, []
    record = documents.read(fit_folder.store, RECORD)
    ids = {key: one for key, one in (record or {}).items() if _is_id(one)}
    entries = written if isinstance(written, _LISTS) else [written]
    if record is not None and not ranks.get_rank():
        for entry in entries:
            _keep_csv(entry)
    filled = [_fill(entry, ids, place, fit) for place, entry in enumerate(entries)]
    logger = filled if isinstance(written, _LISTS) else filled[0]
    return config.model_copy(update={"trainer": {**config.trainer, "logger": logger}}), [RecordRuns(fit_folder, ids)]


def _fill(entry: Any, ids: dict[str, Any], place: int, fit: Fit) -> Any:
    """Return a logger's class_path with more init_args, unless it is not Lightning's."""
    block: Any = {"class_path": entry} if isinstance(entry, str) else copy.deepcopy(entry)
    path = block.get("class_path") if isinstance(block, dict) else None
    if not isinstance(path, str) or not (path.startswith(_LIGHTNING) or "." not in path):
        return entry
    kind = path.rpartition(".")[2]
    if kind == "MLFlowLogger" and ranks.get_rank():
        return {"class_path": _DUMMY}  # it would only connect, and ranks that do so at once break a new SQLite file
    args = dict(block.get("init_args") or {})
    taken = {**(block.get("dict_kwargs") or {}), **args}
    more = _arguments(kind, taken, ids.get(_key(place, kind)), fit)
    block["init_args"] = {**args, **more}
    return block if more else entry


def _keep_csv(entry: Any) -> None:
    """Rename what CSVLogger wrote before, under a version of the user's, to metrics-1.csv: a new one deletes it."""
    args = (entry.get("init_args") or {}) if isinstance(entry, dict) else {}
    version, place = args.get("version"), str(args.get("save_dir"))
    if version is None or parse_scheme(place) or not str(entry.get("class_path")).endswith("CSVLogger"):
        return
    named = version if isinstance(version, str) else f"version_{version}"
    folder = Path(place, args.get("name", "lightning_logs") or "", named)
    if (folder / "metrics.csv").exists():
        number = len(list(folder.glob("metrics-*.csv"))) + 1
        (folder / "metrics.csv").rename(folder / f"metrics-{number}.csv").touch()  # new, so that it is sent


def _arguments(kind: str, taken: dict[str, Any], known: Any, fit: Fit) -> dict[str, Any]:
    """Return the arguments that name, group and continue a logger's run.

    Args:
        kind: the logger's class.
        taken: the arguments that the run file has.
        known: the id that an earlier attempt has recorded.
        fit: as `name_runs`.
    """
    run, trial = fit
    label, more, sure = f"{run}/{trial}" if trial else run, {}, {}
    if kind == "WandbLogger":
        more = {"name": label, "id": known if taken.get("version") is None else None, "group": run if trial else None}
    elif kind == "MLFlowLogger":
        tags = {"trainer.run": run, **({"trainer.trial": trial} if trial else {}), **(taken.get("tags") or {})}
        more, sure = {"run_name": label, "run_id": known}, {"tags": tags, **_tracking_uri(taken)}
    elif kind == "TensorBoardLogger":
        more = {"version": known}
    return sure | {key: one for key, one in more.items() if one is not None and taken.get(key) is None}


def _tracking_uri(taken: dict[str, Any]) -> dict[str, str]:
    """Return MLflow's URI if it is a relative path, as an absolute one: MLflow keeps what it made for the trial before.

    Args:
        taken: the arguments that the run file has.
    """
    os.environ.setdefault(_ALLOW_FILES, "true")
    uri = taken.get("tracking_uri") or os.environ.get("MLFLOW_TRACKING_URI")
    uri = uri or f"file:{taken.get('save_dir') or './mlruns'}"
    match = _RELATIVE.fullmatch(uri)
    return {"tracking_uri": f"{match[1] or 'file:'}{Path.cwd() / match[2]}"} if match else {}


def _key(place: int, kind: str) -> str:
    return f"{place}.{kind}"


def _is_id(value: Any) -> bool:
    """Return whether a logger may get it: a version of TensorBoard's becomes a folder's name, and a storage says it."""
    return type(value) is int or (isinstance(value, str) and re.fullmatch(r"\w[\w-]{0,127}", value) is not None)


class RecordRuns(Callback):
    """Records on rank 0 the ids of the loggers' runs, before anything is trained."""

    def __init__(self, fit_folder: FitFolder, ids: dict[str, Any]) -> None:
        self._fit_folder, self._ids = fit_folder, ids

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the runs, which loggers do at their first metric, and record them."""
        if not trainer.is_global_zero:
            return
        for logger in trainer.loggers:
            getattr(logger, "experiment", None)
        ids = {_key(place, type(logger).__name__): logger.version for place, logger in enumerate(trainer.loggers)}
        if ids != self._ids:
            documents.write(self._fit_folder.store, RECORD, ids)


@contextmanager
def ended_runs(trainer: Trainer) -> Iterator[None]:
    """End the loggers' runs with the fit; they have failed if the fit raised an error, not if it was stopped."""
    try:
        yield
    except Exception:
        end_runs(failed=True)
        raise
    except BaseException:  # Tune stops a trial by SystemExit, after which Lightning says "failed"
        with _said("MLflow's run was not ended as a success"):
            for logger in trainer.loggers:
                if isinstance(logger, MLFlowLogger):
                    logger.finalize("success")
        end_runs()
        raise
    end_runs()


@contextmanager
def _said(what: str) -> Iterator[None]:
    """Log an error in place of raising it: the fit is over, and its result is known."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - whatever a service's client raises
        _log.warning("%s: %s", what, one_line(error))


def end_runs(*, failed: bool = False) -> None:
    """End the run that wandb or mlflow keep for the process: the next one's would be joined to it, or refused."""
    wandb, mlflow = sys.modules.get("wandb"), sys.modules.get("mlflow")
    with _said("a logger's run was not ended"):
        if wandb is not None and wandb.run is not None:
            wandb.finish(exit_code=int(failed))
        if wandb is not None:
            wandb.teardown()  # its server works in this fit's folder, which will be gone for the next one
        if mlflow is not None and mlflow.active_run() is not None:
            mlflow.end_run("FAILED" if failed else "FINISHED")
