"""Serve the pages with uvicorn until a signal ends it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import uvicorn

from trainer_app.errors import InputError
from trainer_app.storage import Store
from trainer_app.temporary import remove_folders
from trainer_app.ui.access import Access
from trainer_app.ui.index import RunIndex
from trainer_app.ui.server import make_app

ENDS_IN_S: Final = 2  # for answers that are under way at Ctrl-C


@contextmanager
def background(storage: Store, index: RunIndex, access: Access, host: str = "127.0.0.1") -> Iterator[str]:
    """Serve from a thread on a free port, and yield the address."""
    listener = listen(host, 0)
    server = uvicorn.Server(uvicorn.Config(make_app(storage, index, access), log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="trainer ui", daemon=True)
    thread.start()
    try:
        yield f"http://{host}:{listener.getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join(ENDS_IN_S * 5)
        listener.close()


def serve(storage: Store, *, host: str, port: int, proxied: bool, say: Callable[[str], None]) -> None:
    """Serve the runs of a storage.

    Args:
        storage: what it shows.
        host, port: where it listens; port 0 is a free one.
        proxied: ask for no token.
        say: called with the address.

    Raises:
        InputError: nothing can listen there.
    """
    listener = listen(host, port)
    access, index = Access(host=host, proxied=proxied), RunIndex(storage).start()
    name = f"[{host}]" if ":" in host else host
    address = f"http://{name}:{listener.getsockname()[1]}/"
    say(f"trainer ui: {address}{f'?token={access.token}' if access.token else ''} (Ctrl-C ends it)")
    config = uvicorn.Config(
        make_app(storage, index, access),
        log_level="warning",
        access_log=False,  # it would have the token
        server_header=False,
        timeout_graceful_shutdown=ENDS_IN_S,
    )
    try:
        uvicorn.Server(config).run(sockets=[listener])
    finally:
        index.stop()
        listener.close()
        remove_folders()  # of downloads that a signal has ended


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens. Raises InputError if there can be none."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen()
    except (OSError, TypeError, ValueError) as error:  # the last two: no name of a host at all
        listener.close()
        why = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"cannot listen on {host}:{port}: {why}; choose another --host or --port") from error
    return listener
