"""`trainer fetch`: a run's artifacts, best checkpoint and logs, copied to this machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from trainer_app.cli.connect import reads_cluster
from trainer_app.cli.options import Context, Endpoint, Namespace, Storage, SubmittedValues
from trainer_app.errors import InputError
from trainer_app.formatting import format_bytes, one_line

# No default: PATTERN comes after it.
Run = Annotated[str, typer.Argument(metavar="RUN", help="A run's name, or a path or URI with a slash in it.")]
Pattern = Annotated[
    str | None,
    typer.Argument(metavar="[PATTERN]", help="Only files that this glob matches, such as '*.csv' or 't00003/logs'."),
]
Output = Annotated[str, typer.Option("--output", "-o", metavar="DIR", help="The folder to copy them into.")]


def fetch(
    command: typer.Context,
    run: Run,
    output: Output,
    pattern: Pattern = None,
    storage: Storage = None,
    namespace: Namespace = None,
    context: Context = None,
    endpoint: Endpoint = None,
    values: SubmittedValues = None,
) -> int:
    """Copy what a run's project wrote (artifacts/), its best checkpoint and its logs into a folder.

    The folder gets the layout of the run's own one. With -n the run's storage is that of a run on Kubernetes, as in
    `trainer results`.
    """
    if reads_cluster(command, namespace, context, storage, run):
        from trainer_app.launch.kube import connect
        from trainer_app.launch.submitted_run import submitted_run

        with submitted_run(connect(namespace, context), run, endpoint, values) as where:
            return copy_files(where.uri, where.run, pattern, Path(output))
    from trainer_app.results import newest_run, resolve_run

    uri, name = resolve_run(run, storage)
    if endpoint:
        os.environ["AWS_ENDPOINT_URL"] = endpoint
    return copy_files(uri, name or newest_run(uri), pattern, Path(output))


def copy_files(uri: str, run: str, pattern: str | None, folder: Path) -> int:
    """Copy the files of a run, and print how many there were.

    Args:
        uri: of the storage.
        run: its name.
        pattern: a glob; None for all of them.
        folder: of this machine.

    Returns:
        the exit code: 1 if a file was not copied, which is said.

    Raises:
        InputError: `folder` can't be made.
        NotFoundError: there is no such run, or nothing matches.
    """
    from trainer_app.results import fetch as fetching
    from trainer_app.storage import open_store

    storage = open_store(uri)
    entries = fetching.list_files(storage, run, pattern)
    try:
        problems = fetching.fetch(storage.child(run), [entry.key for entry in entries], folder)
    except OSError as error:
        raise InputError(f"-o {folder}: {error.strerror or error}; give a folder that you can write") from error
    for problem in problems:
        print(f"warning: not copied: {one_line(problem)}", file=sys.stderr)
    count = len(entries) - len(problems)
    print(
        f"{count} file{'' if count == 1 else 's'} of {run}, {format_bytes(fetching.total_size(entries))}, in {folder}"
    )
    return 1 if problems else 0
