"""`trainer list`: the runs in a storage, or of a namespace."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from trainer_app.cli.formatting import number, one_line
from trainer_app.cli.results import of, state_text, when
from trainer_app.cli.tables import show_table
from trainer_app.errors import InputError

if TYPE_CHECKING:
    from trainer_app.launch.status import RunStatus
    from trainer_app.results import RunSummary

Place = Annotated[
    str | None,
    typer.Argument(metavar="[STORAGE]", help="A folder or s3://bucket/prefix [TRAINER_STORAGE_URI, or runs]."),
]
Storage = Annotated[str | None, typer.Option(metavar="URI", help="The same, as the other verbs have it.")]
Namespace = Annotated[
    str | None,
    typer.Option(
        "--namespace", "-n", metavar="NS", help="The runs on Kubernetes in this namespace, in place of a storage's."
    ),
]
Context = Annotated[str | None, typer.Option(metavar="NAME", help="Of the kubeconfig, with -n.")]
Endpoint = Annotated[str | None, typer.Option(metavar="URL", help="The S3 server as this machine reaches it, with -n.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document, and nothing else, on stdout.")]


def list_runs(
    place: Place = None,
    storage: Storage = None,
    namespace: Namespace = None,
    context: Context = None,
    endpoint: Endpoint = None,
    json: Json = False,
) -> None:
    """List the runs in a storage, or with -n those of a namespace, newest first. Needs neither Ray nor torch."""
    if namespace or context:
        if given := place or storage:
            raise InputError(f"list takes a STORAGE ({given}) or a namespace (-n), not both")
        _list_submitted(namespace, context, endpoint, as_json=json)
        return
    from trainer_app.records import to_json
    from trainer_app.results import list_document, resolve_run
    from trainer_app.results import list_runs as read_runs
    from trainer_app.storage import open_store

    if place and storage and place != storage:
        raise InputError(f"two storages, {place} and --storage {storage}: name one")
    asked, _ = resolve_run(None, place or storage)
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


def _list_submitted(namespace: str | None, context: str | None, endpoint: str | None, *, as_json: bool) -> None:
    from trainer_app.launch import status
    from trainer_app.launch.kube import connect
    from trainer_app.records import to_json

    kube = connect(namespace, context)
    runs = status.list_statuses(kube, endpoint=endpoint)
    if as_json:
        print(to_json({"namespace": kube.namespace, "runs": [_submitted_fields(run) for run in runs]}).decode())
        return
    if not runs:
        print(f"no runs in namespace {kube.namespace}; start one with trainer submit")
        return
    rows = [[str(value or "") for value in _submitted_fields(run).values()] for run in runs]
    show_table(["run", "task", "state", "created", "user", "progress", "error"], rows)
    for problem in sorted({run.storage_error for run in runs if run.storage_error}):
        print(f"warning: storage: {one_line(problem)}", file=sys.stderr)


def _submitted_fields(run: RunStatus) -> dict[str, str]:
    from trainer_app.launch.location import task_of

    meta = run.rayjob["metadata"]
    notes = meta.get("annotations", {})
    return {
        "run": meta["name"],
        "task": task_of(run.rayjob),
        "state": run.phase,
        "created": meta["creationTimestamp"],
        "user": notes.get("trainer/user", ""),
        "progress": run.progress,
        "error": run.error,
    }


def _row(run: RunSummary) -> list[str]:
    record = run.record
    if record is None:
        return [run.name, "", "damaged", "", "", ""]
    target, what = (record.num_samples, "trials") if record.task == "tune" else (record.epochs, "epochs")
    best = f"{record.metric}={number(run.best)}" if record.metric and run.best is not None else ""
    state = state_text(record.state, run.silent_for(time.time()))
    return [run.name, record.task, state, when(record.created), of(run.done, target, what), best]
