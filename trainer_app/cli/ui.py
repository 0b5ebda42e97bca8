"""`trainer ui`: pages of the runs in a storage, for a browser."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from trainer_app.cli.connect import notify, reads_cluster
from trainer_app.cli.options import Context, Endpoint, Namespace, Storage, SubmittedValues
from trainer_app.errors import InputError
from trainer_app.formatting import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer_app.storage import Store

Location = Annotated[str | None, typer.Argument(metavar="[STORAGE]", help="The same as --storage.")]
Host = Annotated[str, typer.Option(metavar="ADDRESS", help="Where it listens; else than on this machine with a token.")]
Port = Annotated[int, typer.Option(metavar="PORT", min=0, max=65535, help="Where it listens; 0 for a free one.")]
Proxied = Annotated[bool, typer.Option("--behind-proxy", help="Ask for no token: a proxy before it checks who asks.")]


def ui(
    command: typer.Context,
    location: Location = None,
    storage: Storage = None,
    host: Host = "127.0.0.1",
    port: Port = 8777,
    behind_proxy: Proxied = False,
    namespace: Namespace = None,
    context: Context = None,
    endpoint: Endpoint = None,
    values: SubmittedValues = None,
) -> None:
    """Show the runs of a storage in a browser, until Ctrl-C. It only reads, and runs none of their code.

    With -n the storage is that of the newest run in the namespace, or the one that --values names.
    """
    from trainer_app.run.require import require_extra

    require_extra("ui", what="trainer ui")
    if location and storage and location != storage:
        raise InputError(f"two storages, {location} and --storage {storage}: name one")
    with ExitStack() as stack:
        if reads_cluster(command, namespace, context, location or storage):
            store = _submitted_storage(stack, namespace, context, endpoint, values)
        else:
            from trainer_app.results import resolve_run
            from trainer_app.storage import open_store

            if endpoint:
                os.environ["AWS_ENDPOINT_URL"] = endpoint
            store = open_store(resolve_run(None, location or storage)[0])
        from trainer_app.ui.serving import serve

        serve(store, host=host, port=port, proxied=behind_proxy, say=lambda line: notify(one_line(line)))


def _submitted_storage(
    stack: ExitStack, namespace: str | None, context: str | None, endpoint: str | None, values: Sequence[str] | None
) -> Store:
    """Return the storage of a namespace's runs, through a port-forward that lasts as long as the stack."""
    from trainer_app.launch import location
    from trainer_app.launch.kube import connect
    from trainer_app.storage import open_store

    kube = connect(namespace, context)
    if values:
        where = location.locate_run(kube, "ui", values, ())
    else:
        where = location.location_of(location.find_rayjob(kube, None))
    stack.enter_context(location.storage_access(kube, where, endpoint))
    return open_store(where.uri)
