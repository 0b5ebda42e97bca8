"""`trainer tensorboard`: what a run's TensorBoardLogger wrote, read from its storage."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from trainer_app.cli.connect import reads_cluster
from trainer_app.cli.options import Context, Endpoint, Namespace, RunOrNewest, Storage, SubmittedValues
from trainer_app.errors import NotFoundError, StorageError
from trainer_app.run.require import require_extra
from trainer_app.temporary import temporary_folder

if TYPE_CHECKING:
    from trainer_app.results.event_files import EventFiles

UPDATE_S: Final = 10.0
Port = Annotated[int, typer.Option(min=0, max=65535, help="The port on 127.0.0.1; 0 for any that is free.")]


def tensorboard(
    command: typer.Context,
    run: RunOrNewest = None,
    port: Port = 6006,
    storage: Storage = None,
    namespace: Namespace = None,
    context: Context = None,
    endpoint: Endpoint = None,
    values: SubmittedValues = None,
) -> int:
    """Show a run in TensorBoard on this machine, all trials of a sweep together, until Ctrl-C.

    The event files are copied from the run's storage, and what is new of them every 10 s. With -n the run is one on
    Kubernetes, by default the newest that you submitted.
    """
    require_extra("tensorboard", what="trainer tensorboard")
    if reads_cluster(command, namespace, context, storage, run):
        from trainer_app.launch.kube import connect
        from trainer_app.launch.submitted_run import submitted_run

        with submitted_run(connect(namespace, context), run, endpoint, values) as where:
            return show(where.uri, where.run, port)
    from trainer_app.results import newest_run, resolve_run

    uri, name = resolve_run(run, storage)
    if endpoint:
        os.environ["AWS_ENDPOINT_URL"] = endpoint
    return show(uri, name or newest_run(uri), port)


def show(uri: str, run: str, port: int) -> int:
    """Run TensorBoard on copies of a run's event files; return its exit code, 0 if the user ended it.

    Raises:
        NotFoundError: there is no such run, or it has no event files.
    """
    from trainer_app.records import RunFolder
    from trainer_app.results.event_files import EventFiles
    from trainer_app.storage import open_store

    store = open_store(uri)
    RunFolder.open(store, run)
    with temporary_folder("tensorboard") as folder:
        files = EventFiles(store.child(run), Path(folder))
        if not files.update():
            hint = "they come with trainer.logger: TensorBoardLogger, from the first epoch on"
            raise NotFoundError(f"run {run} has no files of TensorBoard: {hint}")
        server = [sys.executable, "-P", "-m", "tensorboard.main", "--logdir", str(folder), "--host", "127.0.0.1"]
        return _serve([*server, "--port", str(port), "--reload_interval", str(int(UPDATE_S))], files)


def _serve(command: list[str], files: EventFiles) -> int:
    """Run the server, and update the files until it ends."""
    with subprocess.Popen(command) as server:
        try:
            while True:
                try:
                    return server.wait(UPDATE_S)
                except subprocess.TimeoutExpired:
                    with suppress(StorageError):  # it may answer the next time
                        files.update()
        except KeyboardInterrupt:  # the server has it too
            return 0
        finally:
            server.terminate()
