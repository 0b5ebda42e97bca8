"""`trainer test`: a run's best checkpoint on its test split."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trainer_app.cli.options import Allow, ImportFrom, Json, Log, Storage

Run = Annotated[str | None, typer.Argument(metavar="[RUN]", help="A run's name, path or URI [default: the newest].")]


def test(
    run: Run = None,
    storage: Storage = None,
    json: Json = False,
    log: Log = None,
    allow: Allow = None,
    import_from: ImportFrom = None,
) -> int:
    """Score a run's best checkpoint on the test split, loaded from its storage.

    That runs the code that the run's stored file names, as far as it can be imported here.
    """
    from trainer_app import results
    from trainer_app.cli import redirect
    from trainer_app.cli.screen import write_now
    from trainer_app.formatting import clean_lines, format_pairs, sort_metrics
    from trainer_app.records import RunFolder, to_json
    from trainer_app.run.cluster import prepare_environment
    from trainer_app.run.require import require
    from trainer_app.storage import open_store

    uri, name = results.resolve_run(run, storage)
    name = name or results.newest_run(uri)
    folders = [str(Path(folder).absolute()) for folder in import_from or ()]
    RunFolder.open(open_store(uri), name)
    require("torch", "lightning", "ray", what="trainer test")
    with redirect.to_log(redirect.log_path(log, name, uri)) as original:
        prepare_environment(folders)  # Ray reads it when it is imported
        from trainer_app.train import evaluate

        event = evaluate.test(open_store(uri), name, allow=allow or ())
        if json:
            text = to_json(event).decode()
        else:
            scores = format_pairs(sort_metrics(event["metrics"]), short=False)
            text = f"{name}: {scores or 'no metric is logged in test_step'}\ncheckpoint: {event['checkpoint']}"
            text = clean_lines(text)
        write_now(original.out, text + "\n")
    return 0
