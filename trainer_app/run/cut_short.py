"""A start that was cut short: the run has a record, and neither a run file nor anything trained."""

from __future__ import annotations

from trainer_app.errors import StorageError
from trainer_app.records.models import parse_run_record
from trainer_app.storage import Store, store_name


def is_taken(run_store: Store) -> bool:
    """Return whether a run has this folder; one whose start was cut short gives it up."""
    return run_store.exists("run.yaml") or (run_store.exists("run.json") and not is_cut_short(run_store))


def is_cut_short(run_store: Store) -> bool:
    """Return whether the start of a run that no submission owns was cut short: it can only be started again."""
    if not run_store.exists("run.json") or run_store.exists("run.yaml"):
        return False
    try:
        record = parse_run_record(run_store.get("run.json"), store_name(run_store), "run.json")
    except StorageError:
        return False
    folders = run_store.list_folders()
    return record.submission is None and not {"metrics", "checkpoints", "trials"} & set(folders)


def make_free(run_store: Store) -> None:
    """Remove the record of a start that was cut short; called under the run's lease."""
    if is_cut_short(run_store):
        run_store.delete("run.json")
