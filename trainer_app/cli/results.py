"""`trainer results`: a run's trials, metrics and best checkpoint, from storage alone."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from trainer_app.cli.connect import reads_cluster
from trainer_app.cli.formatting import (
    block,
    local_time,
    number,
    one_line,
    ordered_metrics,
    pairs,
    progress,
    seconds,
    short_names,
    state_text,
)
from trainer_app.cli.options import Context, Endpoint, Json, Namespace, Storage, SubmittedValues
from trainer_app.cli.tables import show_facts, show_table, width
from trainer_app.errors import NotFoundError

if TYPE_CHECKING:
    from trainer_app.launch.kube import Kube
    from trainer_app.results import FitResults, RunResults

Run = Annotated[
    str | None,
    typer.Argument(metavar="[RUN]", help="A run's name, or a path or URI with a slash in it [default: the newest]."),
]
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
    show(uri, name, json=json, trial=trial)


def show_submitted(
    kube: Kube,
    run: str | None,
    *,
    endpoint: str | None = None,
    json: bool = False,
    trial: str | None = None,
    values: list[str] | None = None,
) -> None:
    """The results of a run on Kubernetes, from its storage."""
    from trainer_app.launch import location
    from trainer_app.launch.remote_run import RemoteRun

    found = (
        location.locate_run(kube, run, values, ())
        if run and values
        else location.location_of(location.find_rayjob(kube, run))
    )
    with location.storage_access(kube, found, endpoint):
        if RemoteRun.open(found.uri, found.run).read_record() is None:
            raise NotFoundError(f"run {found.run} has written nothing yet; see: trainer status {found.run}")
        show(found.uri, found.run, json=json, trial=trial)


def show(uri: str, name: str | None, *, json: bool, trial: str | None) -> None:
    """The results of a run, or of the newest one of a storage."""
    from trainer_app.records import to_json
    from trainer_app.results import load_run, newest_run, run_document

    found = load_run(uri, name or newest_run(uri))
    fit = _unit(found, trial)
    if json:
        print(to_json(run_document(found, trial=trial)).decode())
        return
    show_facts(_facts(found))
    if trial is None and found.trials:
        print()
        show_table(*_trials(found), right=("epochs", found.record.metric or ""))
    if fit and fit.history:
        _show_epochs(found, fit)
    if fit and fit.checkpoints:
        print()
        rows = [[str(c.epochs), str(c.step), _metric(found, c.metrics), c.uri] for c in fit.checkpoints]
        show_table(["epoch", "step", found.record.metric or "metric", "checkpoint"], rows, right=("epoch", "step"))
    if trial is not None and fit and fit.record and fit.record.traceback:
        print(f"\nhow {trial} failed:\n{block(fit.record.traceback)}")
    for problem in found.problems:
        print(f"warning: {one_line(problem)}", file=sys.stderr)


def _unit(found: RunResults, trial: str | None) -> FitResults | None:
    """Whose epochs are shown: the asked trial's, or the train run's own."""
    from trainer_app.records.names import hint

    fit = next((fit for fit in found.fits if fit.trial == trial), None)
    if trial is not None and fit is None:
        names = [fit.trial for fit in found.trials if fit.trial]
        raise NotFoundError(f"run {found.record.name!r} has no trial {trial!r}; {hint(trial, names, what='trials')}")
    return fit


def _facts(found: RunResults) -> list[tuple[str, str]]:
    record = found.record
    target, what = (record.num_samples, "trials") if record.task == "tune" else (record.epochs, "epochs")
    again = f", attempt {record.attempt}" if record.attempt > 1 else ""
    facts = [
        ("run", f"{record.name}: {record.task}, {progress(found.done, target, what)}{again}"),
        ("state", state_text(record.state, found.silent_for(time.time()))),
        ("created", local_time(record.created)),
        ("storage", found.uri),
    ]
    if record.error:
        facts.append(("error", record.error))
    if best := found.best:
        trial = f"{best.trial} " if best.trial else ""
        params = f": {pairs(best.params)}" if best.params else ""
        facts.append(("best", f"{trial}{record.metric}={number(best.value)} at epoch {best.epoch + 1}{params}"))
    elif record.metric:
        facts.append(("best", f"no value of {record.metric} yet"))
    if checkpoint := found.checkpoint:
        trial = f"{checkpoint.trial}, " if checkpoint.trial else ""
        value = _metric(found, checkpoint.metrics)
        metric = f", {record.metric}={value}" if value else ""
        facts.append(("checkpoint", f"{checkpoint.uri} ({trial}epoch {checkpoint.epochs}{metric})"))
    else:
        facts.append(("checkpoint", "none is committed yet"))
    return facts


def _metric(found: RunResults, metrics: dict[str, float]) -> str:
    """The run's metric among these; "" if there is none."""
    name = found.record.metric
    return number(metrics[name]) if name is not None and name in metrics else ""


def _trials(found: RunResults) -> tuple[list[str], list[list[str]]]:
    names = short_names(key for fit in found.trials for key in fit.params)
    headers = ["trial", "state", "epochs", found.record.metric or "metric", *names.values(), "reason"]
    rows = []
    for fit in found.trials:
        state, why = found.state_of(fit), fit.record.reason if fit.record else ""
        if fit.record and fit.record.error and fit.record.error not in why:
            why = f"{why}: {fit.record.error}" if why else fit.record.error
        value = number(fit.best.value) if fit.best else ""
        params = [number(fit.params[key], 6) if key in fit.params else "" for key in names]
        rows.append([fit.trial or "", state, progress(fit.epochs, found.record.epochs), value, *params, why])
    return headers, rows


def _show_epochs(found: RunResults, fit: FitResults) -> None:
    merged = {name: 0.0 for line in fit.history for name in line["metrics"]}
    names, hidden = _fitting(list(ordered_metrics(merged, found.record.metric)))
    rows = [
        [
            progress(line["epoch"] + 1, found.record.epochs),
            str(line["step"]),
            *(number(line["metrics"][name]) if name in line["metrics"] else "" for name in names),
            seconds(line["elapsed"]),
        ]
        for line in fit.history
    ]
    headers = ["epoch", "step", *names, "elapsed"]
    print()
    show_table(headers, rows, right=headers)
    if hidden:
        print(f"no room for {', '.join(hidden)}: widen the terminal, or use --json")


def _fitting(names: list[str]) -> tuple[list[str], list[str]]:
    """(metrics that fit the terminal beside epoch, step and elapsed; those that don't)."""
    room = width()
    if room is None:
        return names, []
    room -= 30
    for count, name in enumerate(names):
        room -= max(len(name), 9) + 2
        if room < 0 and count:
            return names[:count], names[count:]
    return names, []
