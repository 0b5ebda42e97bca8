"""A run.json that is damaged or gone, made again from what else the run has in its folder."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from trainer_app.errors import ConfigError, NotFoundError, StorageError
from trainer_app.records.models import RunRecord, parse_run_record
from trainer_app.storage import Entry, Store, store_name

if TYPE_CHECKING:
    from trainer_app.config import RunConfig

SUBMISSION: Final = "submission.json"  # which submission the run belongs to


def read_record(run_store: Store) -> tuple[RunRecord, str]:
    """Return a run's record, and what is wrong with its run.json if the record was made again; "" if it was not.

    Raises:
        NotFoundError: there is no run. StorageError: run.json is damaged, and run.yaml can't be read either.
    """
    data, where = None, f"{run_store.uri}: run.json"
    try:
        data = run_store.get("run.json")
        return parse_run_record(data, store_name(run_store), where), ""
    except StorageError as error:
        lost = isinstance(error, NotFoundError)
        record = rebuild_record(run_store, data) if lost or data is not None else None
        if record is None:
            raise
        return record, f"{f'{where} is gone' if lost else error}; it was made again from what the run has besides"


def rebuild_record(run_store: Store, data: bytes | None) -> RunRecord | None:
    """Return a run's record made from run.yaml, submission.json, and the fields of run.json that are intact.

    Without them it is unknown how the run ended: it counts as interrupted, so that it can be resumed.

    Args:
        run_store: the run's folder.
        data: what run.json holds; None if there is none.

    Returns:
        None if run.yaml can't be read, or if there is no run.json and nothing was trained.
    """
    config = _read_run_file(run_store)
    entries = list(run_store.list()) if config else []
    trained = any("metrics/" in entry.key or "checkpoints/" in entry.key for entry in entries)
    if config is None or (data is None and not trained):
        return None
    name, note = store_name(run_store), _read_object(run_store, SUBMISSION)
    found = _parse_object(data or b"")
    if found.get("name") != name:
        found = {}  # another run's, or nothing
    task = _task_of(config, entries, note)
    times = [entry.modified for entry in entries]
    fields = {"name": name, "task": task, "state": "interrupted", "created": min(times), "updated": max(times)}
    return _replace_fields(
        {**fields, **_fields_of(config, task)}, [("submission", note.get("submission")), *found.items()]
    )


def _task_of(config: RunConfig, entries: list[Entry], note: dict[str, Any]) -> str:
    trials = any(entry.key.startswith("trials/") for entry in entries)
    return "tune" if config.tune is not None and (trials or note.get("task") == "tune") else "train"


def _fields_of(config: RunConfig, task: str) -> dict[str, Any]:
    """Return the fields that the run file decides."""
    metric, mode = config.selection_metric(task)
    seed = config.seed_everything
    return {
        "seed": None if isinstance(seed, bool) else seed,
        "metric": metric,
        "mode": mode,
        "use_gpu": config.scaling.use_gpu is True,
        "resolved": {} if seed is None else {"seed_everything": seed},
        "epochs": config.max_epochs if config.max_epochs >= 0 else None,
        "num_samples": config.tune.num_trials if config.tune and task == "tune" else None,
    }


def _replace_fields(fields: dict[str, Any], others: list[tuple[str, Any]]) -> RunRecord:
    """Return the record of these fields, with those of `others` that are valid."""
    record = RunRecord.model_validate(fields)
    for name, value in others:
        if name in RunRecord.model_fields and value is not None:
            with suppress(ValidationError, RecursionError):
                record = RunRecord.model_validate({**record.model_dump(), name: value})
    return record


def _read_run_file(run_store: Store) -> RunConfig | None:
    from trainer_app.config import loads

    try:
        return loads(run_store.get("run.yaml").decode())
    except (NotFoundError, UnicodeDecodeError, ConfigError):
        return None


def _read_object(run_store: Store, key: str) -> dict[str, Any]:
    try:
        return _parse_object(run_store.get(key))
    except NotFoundError:
        return {}


def _parse_object(data: bytes) -> dict[str, Any]:
    """Return the mapping that JSON holds; {} if it is no JSON, or no mapping."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
