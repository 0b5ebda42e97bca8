"""What `test`, `predict` and `export` begin with: a run in a storage, whose code can be imported from now on."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from trainer_app.errors import InputError

if TYPE_CHECKING:
    from trainer_app.storage import Store


@dataclass(frozen=True)
class StoredRun:
    """A run in its storage, and the streams of the command."""

    store: Store  # the whole storage
    name: str
    out: TextIO
    err: TextIO

    def write(self, event: dict[str, Any], text: str, *, json: bool) -> None:
        """Print an event, as JSON or as the lines of `text`."""
        from trainer_app.cli.screen import write_now
        from trainer_app.formatting import clean_lines
        from trainer_app.records import to_json

        write_now(self.out, (to_json(event).decode() if json else clean_lines(text)) + "\n")


def check_output(output: str) -> str:
    """Return a path or URI of a file that is to be written.

    Raises:
        InputError: something else than a file is there, which a file would replace: a folder, a pipe, /dev/null.
    """
    path = Path(output.removeprefix("file://")).expanduser()
    if path.exists() and not path.is_file():
        raise InputError(f"-o {output}: what is there is not a file; give the name of a new one")
    return output


@contextmanager
def stored_run(
    run: str | None, storage: str | None, log: str | None, folders: Sequence[str] | None, *, verb: str
) -> Iterator[StoredRun]:
    """Find a run, and send to the log what its code and Ray print.

    Args:
        run, storage, log, folders: the options RUN, --storage, --log and --import-from.
        verb: for the message if something is not installed.

    Raises:
        NotFoundError: there is no such run.
    """
    from trainer_app import results
    from trainer_app.cli import redirect
    from trainer_app.records import RunFolder
    from trainer_app.run import user_code
    from trainer_app.run.cluster import prepare_environment
    from trainer_app.run.require import require
    from trainer_app.storage import open_store

    uri, name = results.resolve_run(run, storage)
    name = name or results.newest_run(uri)
    folder = RunFolder.open(open_store(uri), name)
    require("torch", "lightning", "ray", what=f"trainer {verb}")
    with redirect.to_log(redirect.log_path(log, name, uri)) as original:
        prepare_environment([str(Path(folder).absolute()) for folder in folders or ()])  # Ray reads it on import
        user_code.install(folder.run_store, os.environ.get(user_code.CODE, ""))  # in a pod
        yield StoredRun(open_store(uri), name, original.out, original.err)
