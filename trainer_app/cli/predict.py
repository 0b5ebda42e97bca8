"""`trainer predict`: rows in, a prediction for each of them out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from trainer_app.cli.options import Allow, Epoch, ImportFrom, Json, Log, OutputFile, RunOrNewest, Storage, Trial
from trainer_app.cli.stored_run import check_output, stored_run

Data = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|DIR",
        help="Rows: a .parquet or .csv file, or a folder of them, a path or an S3 URI "
        "[default: the data module's predict_dataloader].",
    ),
]
Columns = Annotated[
    str | None,
    typer.Option(metavar="A,B,...", help="Of --data: a batch is these columns as one tensor [default: all, by name]."),
]
Keep = Annotated[str | None, typer.Option(metavar="A,B,...", help="Of --data: columns to copy into the output.")]
BatchSize = Annotated[int, typer.Option(metavar="N", min=1, help="Of --data: rows in a batch.")]
PartSize = Annotated[int, typer.Option(metavar="N", min=1, help="Rows that are committed together.")]
Workers = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Processes [default: one, or all CPUs for 8 parts and more].")
]


def predict(
    run: RunOrNewest = None,
    data: Data = None,
    output: OutputFile = None,
    columns: Columns = None,
    keep: Keep = None,
    batch_size: BatchSize = 1024,
    part_size: PartSize = 10_000,
    workers: Workers = None,
    trial: Trial = None,
    epoch: Epoch = None,
    storage: Storage = None,
    json: Json = False,
    log: Log = None,
    allow: Allow = None,
    import_from: ImportFrom = None,
) -> int:
    """Write a prediction for each row to a .parquet or .csv file. If it is killed, the same command continues.

    That runs the code that the run's stored file names, as far as it can be imported here.
    """
    options: dict[str, Any] = {"batch_size": batch_size, "part_rows": part_size, "workers": workers}
    options |= {"columns": _split(columns), "keep": _split(keep), "allow": tuple(allow or ())}
    with stored_run(run, storage, log, import_from, verb="predict") as stored:
        from trainer_app.training import predict as predicting

        target = check_output(output or f"{stored.name}-predictions.parquet")
        request = predicting.PredictRequest(target, data, trial=trial, epoch=epoch, **options)
        event = predicting.predict(stored.store, stored.name, request, say=_progress(stored.err))
        kept = f", {event['kept']} of {event['parts']} parts from an earlier attempt" if event["kept"] else ""
        text = f"{event['file']}: {event['rows']:,} rows{kept}\ncheckpoint: {event['checkpoint']}"
        stored.write(event, text, json=json)
    return 0


def _split(names: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (names or "").split(",") if name.strip())


def _progress(err: Any) -> Callable[[int, int], None]:
    """Return what prints a line for each tenth of the parts."""
    printed = -1

    def say(done: int, total: int) -> None:
        nonlocal printed
        tenth = 10 * done // total
        if total > 1 and tenth > printed:
            printed = tenth
            err.write(f"{done} of {total} parts\n")
            err.flush()

    return say
