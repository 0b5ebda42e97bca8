"""`trainer results`: a run's trials, metrics and best checkpoint, read from storage."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trainer_app.cli.connect import reads_cluster
from trainer_app.cli.options import Context, Endpoint, Json, Namespace, RunOrNewest, Storage, SubmittedValues
from trainer_app.cli.run_text import select_fit, show_text
from trainer_app.cli.tables import terminal_width
from trainer_app.errors import InputError
from trainer_app.formatting import one_line
from trainer_app.machine import write_whole
from trainer_app.results.curves import BLOCKS, Curve, chart, read_curves, sparklines

if TYPE_CHECKING:
    from trainer_app.launch.kube import Kube
    from trainer_app.results import RunResults
    from trainer_app.storage import Store

Trial = Annotated[str | None, typer.Option(metavar="TRIAL", help="Show this trial's epochs and checkpoints.")]
Csv = Annotated[str | None, typer.Option(metavar="FILE", help="Write a row per epoch, with parameters; - for stdout.")]
Parquet = Annotated[str | None, typer.Option(metavar="FILE", help="The same as Parquet; needs pyarrow.")]
Plot = Annotated[bool, typer.Option("--plot", help="Draw the metric by epoch: of TRIAL, or of the best trials.")]


@dataclass(frozen=True)
class Format:
    """How a run is shown: of one trial or of the whole run, as text, JSON, a chart, or as files for other tools."""

    trial: str | None = None
    json: bool = False
    plot: bool = False
    csv: str | None = None
    parquet: str | None = None


def results(
    command: typer.Context,
    run: RunOrNewest = None,
    storage: Storage = None,
    json: Json = False,
    trial: Trial = None,
    plot: Plot = False,
    csv: Csv = None,
    parquet: Parquet = None,
    namespace: Namespace = None,
    context: Context = None,
    endpoint: Endpoint = None,
    values: SubmittedValues = None,
) -> None:
    """Show a run: trials, metrics, the best checkpoint. Needs neither Ray nor torch.

    With -n the run is one on Kubernetes, by default the newest that you submitted. A storage that is named (also by
    TRAINER_STORAGE_URI, or by a path or URI as RUN) counts before TRAINER_NAMESPACE.
    """
    chosen = Format(trial, json, plot, csv, parquet)
    if sum((json, plot, csv is not None, parquet is not None)) > 1:
        raise InputError("--json, --plot, --csv and --parquet are four ways to show a run: choose one")
    if reads_cluster(command, namespace, context, storage, run):
        from trainer_app.launch.kube import connect

        show_submitted(connect(namespace, context), run, endpoint=endpoint, values=values, form=chosen)
        return
    from trainer_app.results import resolve_run

    uri, name = resolve_run(run, storage)
    if endpoint:
        os.environ["AWS_ENDPOINT_URL"] = endpoint
    show_results(uri, name, chosen)


def show_submitted(
    kube: Kube,
    run: str | None,
    *,
    endpoint: str | None = None,
    values: list[str] | None = None,
    form: Format = Format(),
) -> None:
    """Print the results of a run on Kubernetes, read from its storage.

    Args:
        run: its name; None for this user's newest.
        endpoint, values: as the options of `trainer results`.
        form: how it is shown.

    Raises:
        NotFoundError: there is no such run, or it has written nothing yet.
    """
    from trainer_app.launch.submitted_run import submitted_run

    with submitted_run(kube, run, endpoint, values) as where:
        show_results(where.uri, where.run, form)


def show_results(uri: str, name: str | None, form: Format) -> None:
    """Print the results of a run from its storage.

    Args:
        uri: of the storage that has the run.
        name: the run's; None for the newest in the storage.
        form: how it is shown.

    Raises:
        NotFoundError: there is no such run or trial.
        InputError: a file can't be written, or nothing is there to draw.
    """
    from trainer_app.results import newest_run, read_outcome, read_run
    from trainer_app.storage import open_store

    storage, name = open_store(uri), name or newest_run(uri)
    if not (form.json or form.csv or form.parquet):
        run = read_outcome(storage, name, trial=form.trial)
        fit = select_fit(run, form.trial)
        curves = _read_curves(storage, run, plot=form.plot)
        if form.plot:
            _draw(run, curves, form.trial)
        else:
            show_text(run, fit, form.trial, sparklines(curves))
        return
    run = read_run(storage, name)
    select_fit(run, form.trial)
    _write(run, form)
    for problem in run.problems if not form.json else ():
        print(f"warning: {one_line(problem)}", file=sys.stderr)


def _write(run: RunResults, form: Format) -> None:
    """Write the run, or a trial of it, as JSON to stdout or as a table to a file."""
    from trainer_app.records import to_json
    from trainer_app.results import run_document
    from trainer_app.results.table_files import to_csv, to_parquet

    if form.json:
        print(to_json(run_document(run, trial=form.trial)).decode())
        return
    if form.trial is not None:
        run = replace(run, fits=[fit for fit in run.fits if fit.trial == form.trial])
    data, path = (to_csv(run), form.csv) if form.csv else (to_parquet(run), form.parquet)
    if path == "-":
        sys.stdout.buffer.write(data)
    else:
        write_whole(Path(str(path)), data)


def _read_curves(storage: Store, run: RunResults, *, plot: bool) -> dict[str | None, Curve]:
    """Return the curves that are shown: none in a pipe or on a terminal that has no blocks, if not asked for."""
    try:
        BLOCKS.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        if plot:
            raise InputError("--plot: this terminal's encoding has no blocks; set LC_ALL=C.UTF-8") from None
        return {}
    return read_curves(storage, run) if plot or sys.stdout.isatty() else {}


def _draw(run: RunResults, curves: Mapping[str | None, Curve], trial: str | None) -> None:
    """Print a chart of one trial, of the train run, or of the best trials."""
    from trainer_app.metric_order import sort_key

    if not run.record.metric:
        raise InputError(f"--plot: run {run.record.name!r} has no metric; --csv has all values")
    fits = [fit for fit in run.fits if trial in (None, fit.trial)]
    fits.sort(key=lambda fit: sort_key(fit.best.value if fit.best else None, run.record.mode))
    named = {fit.trial or run.record.name: curves.get(fit.trial, []) for fit in fits}
    print(chart(named, run.record.metric, width=terminal_width() or 100))
