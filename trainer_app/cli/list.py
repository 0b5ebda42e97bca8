"""`trainer list`: the runs in a storage."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from trainer_app.cli.results import of, state_text, when
from trainer_app.cli.tables import show_table
from trainer_app.cli.text import number, one_line
from trainer_app.errors import InputError

if TYPE_CHECKING:
    from trainer_app.results import RunSummary

Place = Annotated[
    str | None,
    typer.Argument(metavar="[STORAGE]", help="A folder or s3://bucket/prefix [TRAINER_STORAGE_URI, or runs]."),
]
Storage = Annotated[str | None, typer.Option(metavar="URI", help="The same, as the other verbs have it.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document, and nothing else, on stdout.")]


def list_runs(place: Place = None, storage: Storage = None, json: Json = False) -> None:
    """List the runs in a storage, newest first. Needs neither Ray nor torch."""
    from trainer_app.records import to_json
    from trainer_app.results import find, list_document
    from trainer_app.results import list_runs as read_runs
    from trainer_app.storage import open_store

    if place and storage and place != storage:
        raise InputError(f"two storages, {place} and --storage {storage}: name one")
    asked, _ = find(None, place or storage)
    uri = open_store(asked).uri
    runs = read_runs(asked)
    if json:
        print(to_json(list_document(uri, runs)).decode())
        return
    if not runs:
        print(f"no runs in {uri}; start one with trainer train or trainer tune")
        return
    show_table(["run", "task", "state", "created", "done", "best"], [_row(run) for run in runs])
    for run in runs:
        if run.problem:
            print(f"warning: {one_line(run.problem)}", file=sys.stderr)


def _row(run: RunSummary) -> list[str]:
    record = run.record
    if record is None:
        return [run.name, "", "damaged", "", "", ""]
    target, what = (record.num_samples, "trials") if record.task == "tune" else (record.epochs, "epochs")
    best = f"{record.metric}={number(run.best)}" if record.metric and run.best is not None else ""
    state = state_text(record.state, run.quiet(time.time()))
    return [run.name, record.task, state, when(record.created), of(run.done, target, what), best]
