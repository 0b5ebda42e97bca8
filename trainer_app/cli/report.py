"""`trainer report`: a page of runs, sweeps and curves, read from storage."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from trainer_app.cli.connect import reads_cluster
from trainer_app.cli.options import Context, Endpoint, Json, Namespace, Storage, SubmittedValues
from trainer_app.formatting import format_bytes
from trainer_app.machine import write_whole

Runs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[RUN...]", help="Runs' names, or paths or URIs with a slash in them [default: the newest]."
    ),
]
Output = Annotated[str | None, typer.Option("--output", "-o", metavar="FILE", help="The file [default: RUN.html].")]


def report(
    command: typer.Context,
    runs: Runs = None,
    output: Output = None,
    storage: Storage = None,
    json: Json = False,
    namespace: Namespace = None,
    context: Context = None,
    endpoint: Endpoint = None,
    values: SubmittedValues = None,
) -> None:
    """Write one HTML file of a run, a sweep, or several side by side; it needs no network and no other file.

    With -n the runs are on Kubernetes, by default the newest that you submitted.
    """
    names: list[str | None] = [*runs] if runs else [None]
    with ExitStack() as tunnels:
        if reads_cluster(command, namespace, context, storage, names[0]):
            from trainer_app.launch.kube import connect
            from trainer_app.launch.submitted_run import submitted_run

            kube = connect(namespace, context)
            where = [tunnels.enter_context(submitted_run(kube, name, endpoint, values)) for name in names]
            places: list[tuple[str, str | None]] = [(one.uri, one.run) for one in where]
        else:
            places = [_locate(name, storage) for name in names]
            if endpoint:
                os.environ["AWS_ENDPOINT_URL"] = endpoint
        write_report(places, output, json=json)


def _locate(name: str | None, storage: str | None) -> tuple[str, str | None]:
    from trainer_app.results import resolve_run

    return resolve_run(name, storage)


def write_report(places: list[tuple[str, str | None]], output: str | None, *, json: bool) -> None:
    """Write the page of runs, or print its document.

    Args:
        places: the URI of the storage and the name of each run; None for the newest.
        output: the file; None is named after the first run.
        json: print the document on stdout.

    Raises:
        NotFoundError: there is no such run. InputError: the file can't be written.
    """
    from trainer_app.records import to_json
    from trainer_app.report import render_page, report_document
    from trainer_app.results import newest_run
    from trainer_app.storage import open_store

    document = report_document([(open_store(uri), name or newest_run(uri)) for uri, name in places])
    if json:
        print(to_json(document).decode())
        return
    path, page = Path(output or f"{document['runs'][0]['name']}.html"), render_page(document).encode()
    write_whole(path, page)
    print(f"{path}, {format_bytes(len(page))}: open it in a browser")
