"""`trainer clean`: what killed runs have left in a storage."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from trainer_app.cli.tables import show_table

Location = Annotated[
    str | None, typer.Argument(metavar="[STORAGE]", help="A storage's URI [default: TRAINER_STORAGE_URI, or runs].")
]
Yes = Annotated[bool, typer.Option("--yes", help="Remove what is shown.")]
OlderThan = Annotated[
    float,
    typer.Option(
        metavar="HOURS", min=0, help="How old an incomplete prediction must be, and on S3 an upload that was not ended."
    ),
]


def clean(location: Location = None, yes: Yes = False, older_than: OlderThan = 24.0) -> None:
    """Show, and with --yes remove, writes that never ended, checkpoints without a manifest, incomplete predictions.

    Nothing is touched of a run or a prediction that a process works on, nor any checkpoint that counts.
    """
    from trainer_app.formatting import format_bytes, format_duration
    from trainer_app.results import resolve_run
    from trainer_app.run.orphans import find_orphans
    from trainer_app.storage import open_store

    storage = open_store(location or resolve_run(None)[0])
    orphans = find_orphans(storage, older_than_s=older_than * 3600)
    if not orphans:
        print(f"nothing is orphaned in {storage.uri}")
        return
    now = time.time()
    rows = [[o.key, o.what, format_bytes(o.size), format_duration(now - o.modified)] for o in orphans]
    show_table(["object", "what", "size", "age"], rows)
    if yes:
        for orphan in orphans:
            orphan.remove(storage)
    print(f"{'removed' if yes else 'to remove them: --yes'} ({len(orphans)} in {storage.uri})")
