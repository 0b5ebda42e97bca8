"""`trainer results`: a run's trials, metrics and best checkpoint, read from storage."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from trainer_app.cli.connect import reads_cluster, submitted_run
from trainer_app.cli.options import Context, Endpoint, Json, Namespace, Storage, SubmittedValues
from trainer_app.cli.tables import run_state, show_facts, show_table, terminal_width
from trainer_app.errors import NotFoundError
from trainer_app.formatting import (
    clean_lines,
    command,
    format_bytes,
    format_number,
    format_pairs,
    local_time,
    one_line,
    progress,
)
from trainer_app.results.tables import NARROW, best_text, epochs_table, trials_table

if TYPE_CHECKING:
    from trainer_app.launch.kube import Kube
    from trainer_app.results import Checkpoint, FitResults, RunResults

Run = Annotated[
    str | None,
    typer.Argument(metavar="[RUN]", help="A run's name, or a path or URI with a slash in it [default: the newest]."),
]
ARTIFACTS_SHOWN = 10
Trial = Annotated[str | None, typer.Option(metavar="TRIAL", help="Show this trial's epochs and checkpoints.")]


def results(
    command: typer.Context,
    run: Run = None,
    storage: Storage = None,
    json: Json = False,
    trial: Trial = None,
    namespace: Namespace = None,
    context: Context = None,
    endpoint: Endpoint = None,
    values: SubmittedValues = None,
) -> None:
    """Show a run: trials, metrics, the best checkpoint. Needs neither Ray nor torch.

    With -n the run's storage is that of a run on Kubernetes. A storage that is named (also by TRAINER_STORAGE_URI, or
    by a path or URI as RUN) counts before TRAINER_NAMESPACE.
    """
    if reads_cluster(command, namespace, context, storage, run):
        from trainer_app.launch.kube import connect

        show_submitted(connect(namespace, context), run, endpoint=endpoint, json=json, trial=trial, values=values)
        return
    from trainer_app.results import resolve_run

    uri, name = resolve_run(run, storage)
    if endpoint:
        os.environ["AWS_ENDPOINT_URL"] = endpoint
    show_results(uri, name, json=json, trial=trial)


def show_submitted(
    kube: Kube,
    run: str | None,
    *,
    endpoint: str | None = None,
    json: bool = False,
    trial: str | None = None,
    values: list[str] | None = None,
) -> None:
    """Print the results of a run on Kubernetes, read from its storage.

    Args:
        run: its name; None for this user's newest.
        endpoint, json, trial, values: as the options of `trainer results`.

    Raises:
        NotFoundError: there is no such run, or it has written nothing yet.
    """
    with submitted_run(kube, run, endpoint, values) as where:
        show_results(where.uri, where.run, json=json, trial=trial)


def show_results(uri: str, name: str | None, *, json: bool, trial: str | None) -> None:
    """Print the results of a run from its storage.

    Args:
        uri: of the storage that has the run.
        name: the run's; None for the newest in the storage.
        trial: show only this one; None for the whole run.

    Raises:
        NotFoundError: there is no such run or trial.
    """
    from trainer_app.records import to_json
    from trainer_app.results import newest_run, read_outcome, read_run, run_document
    from trainer_app.results.view import trial_rows
    from trainer_app.storage import open_store

    storage, name = open_store(uri), name or newest_run(uri)
    run = read_run(storage, name) if json else read_outcome(storage, name, trial=trial)
    fit, metric = _select_fit(run, trial), run.record.metric or "metric"
    if json:
        print(to_json(run_document(run, trial=trial)).decode())
        return
    show_facts([*_run_facts(run), *(_trial_facts(run, fit) if trial and fit else _best_facts(run))])
    if trial is None and run.trials:
        print()
        headers, cells = trials_table(trial_rows(run), metric, run.record.epochs, terminal_width())
        show_table(headers, cells, right=("epochs", metric, "elapsed"), narrow=NARROW)
    if fit and fit.history:
        _show_epochs(run, fit)
    if fit and fit.checkpoints:
        print()
        rows = [[str(c.epochs), str(c.step), _metric(run, c.metrics), c.uri] for c in fit.checkpoints]
        show_table(["epoch", "step", metric, "checkpoint"], rows, right=("epoch", "step"))
    _show_artifacts(run, trial)
    if trial is not None and fit and fit.record and fit.record.traceback:
        print(f"\nhow {trial} failed:\n{clean_lines(fit.record.traceback)}")
    for problem in run.problems:
        print(f"warning: {one_line(problem)}", file=sys.stderr)


def _select_fit(run: RunResults, trial: str | None) -> FitResults | None:
    """Return the fit whose epochs are shown: the named trial's, or the train run's own."""
    from trainer_app.records.names import suggest_name

    fit = next((fit for fit in run.fits if fit.trial == trial), None)
    if trial is not None and fit is None:
        hint = suggest_name(trial, [fit.trial for fit in run.trials if fit.trial], what="trials")
        raise NotFoundError(f"run {run.record.name!r} has no trial {trial!r}; {hint}")
    return fit


def _run_facts(run: RunResults) -> list[tuple[str, str]]:
    record = run.record
    attempt = f", attempt {record.attempt}" if record.attempt > 1 else ""
    facts = [
        ("run", f"{record.name}: {record.task}, {progress(run.done, *record.target)}{attempt}"),
        ("state", run_state(run)),
        ("created", local_time(record.created)),
        ("storage", run.uri),
    ]
    return facts + ([("error", record.error)] if record.error else [])


def _best_facts(run: RunResults) -> list[tuple[str, str]]:
    best, metric = run.summary, run.record.metric
    text = best_text(best, metric) if best else f"no value of {metric} yet"
    trial = f"{run.checkpoint.trial}, " if run.checkpoint and run.checkpoint.trial else ""
    facts = [("best", text)] if best or metric else []
    return [*facts, ("checkpoint", _checkpoint_text(run, run.checkpoint, trial))]


def _trial_facts(run: RunResults, fit: FitResults) -> list[tuple[str, str]]:
    from trainer_app.results.model import best_checkpoint
    from trainer_app.results.view import trial_rows

    record, best = run.record, fit.best
    row = next(row for row in trial_rows(run) if row.trial == fit.trial)
    text = best_text({"value": best.value, "epoch": best.epoch}, record.metric) if best else "no value yet"
    facts = [
        ("trial", f"{row.trial}: {row.state}, {progress(row.epochs, record.epochs, 'epochs')}"),
        ("reason", row.reason),
        ("parameters", format_pairs(row.params)),
        ("best", text),
        ("checkpoint", _checkpoint_text(run, best_checkpoint(fit.checkpoints, record.metric, record.mode))),
    ]
    return [(label, text) for label, text in facts if text]


def _checkpoint_text(run: RunResults, checkpoint: Checkpoint | None, trial: str = "") -> str:
    if checkpoint is None:
        return "none is committed yet"
    value = _metric(run, checkpoint.metrics)
    metric = f", {run.record.metric}={value}" if value else ""
    return f"{checkpoint.uri} ({trial}epoch {checkpoint.epochs}{metric})"


def _metric(run: RunResults, metrics: dict[str, float]) -> str:
    """Return the run's metric among these; "" if there is none."""
    name = run.record.metric
    return format_number(metrics[name]) if name is not None and name in metrics else ""


def _show_artifacts(run: RunResults, trial: str | None) -> None:
    """Print how many artifacts there are, and the first of them."""
    artifacts = run.artifacts_of(trial)
    if not artifacts:
        return
    total = format_bytes(sum(one.size for one in artifacts))
    copy = one_line(command("trainer", "fetch", run.uri, "-o", "DIR"))
    print(f"\nartifacts: {len(artifacts)}, {total}; copy them: {copy}")
    for one in artifacts[:ARTIFACTS_SHOWN]:
        print(f"  {one_line(one.name)} ({format_bytes(one.size)})")
    if len(artifacts) > ARTIFACTS_SHOWN:
        print(f"  and {len(artifacts) - ARTIFACTS_SHOWN} more: --json names all")


def _show_epochs(run: RunResults, fit: FitResults) -> None:
    (headers, rows), hidden = epochs_table(fit.history, run.record.metric, run.record.epochs, terminal_width())
    print()
    show_table(headers, rows, right=headers)
    if hidden:
        print(one_line(f"no room for {', '.join(hidden)}: widen the terminal, or use --json"))
