"""A run as text on a terminal: its facts, its trials, its epochs."""

from __future__ import annotations

import sys
from collections.abc import Mapping

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
from trainer_app.results import Checkpoint, FitResults, RunResults
from trainer_app.results.tables import NARROW, best_text, epochs_table, trials_table
from trainer_app.results.view import trial_rows

ARTIFACTS_SHOWN = 10


def show_text(run: RunResults, fit: FitResults | None, trial: str | None, curves: Mapping[str | None, str]) -> None:
    """Print a run, or one trial of it.

    Args:
        run: what was read of it.
        fit: the one whose epochs are shown, if any.
        trial: the name of the trial that is shown alone, if any.
        curves: a line of blocks for each trial, or for None, the train run.
    """
    metric = run.record.metric or "metric"
    show_facts([*_run_facts(run), *(_trial_facts(run, fit) if trial and fit else _best_facts(run))])
    if line := curves.get(trial, "") if fit else "":
        print(f"{metric} by epoch: {line}")
    if trial is None and run.trials:
        print()
        lines = {name: line for name, line in curves.items() if name}
        headers, cells = trials_table(trial_rows(run), metric, run.record.epochs, terminal_width(), lines)
        show_table(headers, cells, right=("epochs", metric, "elapsed"), narrow=NARROW)
        _show_repeats(run)
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


def _show_repeats(run: RunResults) -> None:
    """Print the trials that ran again with other seeds."""
    from trainer_app.results.repeats import repeated_trials

    headers = ["repeated", "seeds", "mean", "95 % interval", "alone"]
    rows = []
    for one in repeated_trials(run):
        interval = "-" if one.low is None else f"{format_number(one.low)} to {format_number(one.high)}"
        rows.append([one.trial, str(len(one.seeds)), format_number(one.mean), interval, format_number(one.value)])
    if rows:
        print()
        show_table(headers, rows, right=("seeds", "mean", "alone"))


def select_fit(run: RunResults, trial: str | None) -> FitResults | None:
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
        *record.past_ends,
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
