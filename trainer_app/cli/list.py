"""`trainer list`: the runs in a storage, or of a namespace."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from trainer_app.cli.connect import reads_cluster
from trainer_app.cli.options import Context, Endpoint, Json, Namespace, Storage
from trainer_app.cli.tables import run_state, show_table
from trainer_app.errors import InputError
from trainer_app.formatting import format_number, local_time, one_line, progress

if TYPE_CHECKING:
    from trainer_app.launch.status import RunStatus
    from trainer_app.results import RunSummary

Location = Annotated[str | None, typer.Argument(metavar="[STORAGE]", help="The same as --storage.")]


def list_runs(
    command: typer.Context,
    location: Location = None,
    storage: Storage = None,
    namespace: Namespace = None,
    context: Context = None,
    endpoint: Endpoint = None,
    json: Json = False,
) -> None:
    """List the runs in a storage, or with -n those of a namespace, newest first. Needs neither Ray nor torch.

    A storage that is named (also by TRAINER_STORAGE_URI) counts before TRAINER_NAMESPACE.
    """
    if location and storage and location != storage:
        raise InputError(f"two storages, {location} and --storage {storage}: name one")
    if reads_cluster(command, namespace, context, location or storage):
        _list_submitted(namespace, context, endpoint, as_json=json)
        return
    from trainer_app.records import to_json
    from trainer_app.results import list_document, resolve_run
    from trainer_app.results import list_runs as read_runs
    from trainer_app.storage import open_store

    if endpoint:
        os.environ["AWS_ENDPOINT_URL"] = endpoint
    storage_uri, _ = resolve_run(None, location or storage)
    uri = open_store(storage_uri).uri
    runs = read_runs(storage_uri)
    if json:
        print(to_json(list_document(uri, runs)).decode())
        return
    if not runs:
        print(one_line(f"no runs in {uri}; start one with trainer train or trainer tune"))
        return
    show_table(["run", "task", "state", "created", "done", "best"], [_row(run) for run in runs])
    for run in runs:
        if run.problem:
            print(f"warning: {one_line(run.problem)}", file=sys.stderr)


def _list_submitted(namespace: str | None, context: str | None, endpoint: str | None, *, as_json: bool) -> None:
    from trainer_app.launch import status
    from trainer_app.launch.kube import connect
    from trainer_app.records import to_json

    kube = connect(namespace, context)
    runs = status.list_statuses(kube, endpoint=endpoint)
    fields = [_submitted_fields(run) for run in runs]
    if as_json:
        print(to_json({"namespace": kube.namespace, "runs": fields}).decode())
        return
    if not runs:
        print(f"no runs in namespace {kube.namespace}; start one with trainer submit")
        return
    show_table(list(fields[0]), [[str(value or "") for value in run.values()] for run in fields])
    for problem in sorted({run.storage_error for run in runs if run.storage_error}):
        print(f"warning: storage: {one_line(problem)}", file=sys.stderr)


def _submitted_fields(run: RunStatus) -> dict[str, str]:
    from trainer_app.launch.location import task_of

    meta = run.rayjob["metadata"]
    return {
        "run": meta["name"],
        "task": task_of(run.rayjob),
        "state": run.phase,
        "created": meta["creationTimestamp"],
        "user": meta.get("annotations", {}).get("trainer/user", ""),
        "progress": run.progress,
        "error": run.error,
    }


def _row(run: RunSummary) -> list[str]:
    record = run.record
    if record is None:
        return [run.name, "", "damaged", "", "", ""]
    best = f"{record.metric}={format_number(run.best)}" if record.metric and run.best is not None else ""
    return [run.name, record.task, run_state(run), local_time(record.created), progress(run.done, *record.target), best]
