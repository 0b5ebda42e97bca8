"""How a run stands, in text: what `trainer train` and `tune` leave on a terminal, and what `trainer results` shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from trainer_app.formatting import (
    command,
    format_duration,
    format_number,
    format_pairs,
    one_line,
    progress,
    shorten_keys,
    sort_metrics,
)
from trainer_app.results.view import RunView, TrialRow
from trainer_app.storage_uri import join_uri

NARROW: Final = 80  # characters; below it a trial is running text
ROOM_FOR_ELAPSED: Final = 100
Columns = tuple[list[str], list[list[str]]]


def trials_table(
    rows: Sequence[TrialRow],
    metric: str | None,
    target: int | None,
    width: int | None,
    curves: Mapping[str, str] | None = None,
) -> Columns:
    """Return headers and a row per trial: its state, its best value, its parameters, and why it ended.

    Args:
        rows: the trials.
        metric: the name of the run's metric.
        target: the epochs that a trial is to reach.
        width: of the terminal, in characters; None for a pipe. Each parameter gets a column if they all fit.
        curves: the line of blocks of a trial, by its name; shown on a terminal that has room.
    """
    names = shorten_keys(key for row in rows for key in row.params)
    heading = metric or "metric"
    curves = curves if width is not None and width >= ROOM_FOR_ELAPSED else None
    shown = [("curve", [curves.get(row.trial, "") for row in rows])] if curves else []
    # 70: the other columns, with a short reason; 18: a curve
    room = None if width is None else width - 70 - len(heading) - 18 * len(shown)
    if room is None or sum(max(len(name), 8) + 2 for name in names.values()) <= room:
        params = [(names[k], [format_number(r.params[k], 6) if k in r.params else "" for r in rows]) for k in names]
    else:
        params = [("parameters", [format_pairs(row.params, digits=3) for row in rows])]
    columns = [
        ("trial", [row.trial for row in rows]),
        ("state", [row.state for row in rows]),
        ("epochs", [progress(row.epochs, target) for row in rows]),
        (heading, [format_number(row.value) for row in rows]),
        *shown,
        *params,
        ("elapsed", [format_duration(row.elapsed) for row in rows]),
        ("reason", [row.reason for row in rows]),
    ]
    if width is not None and width < ROOM_FOR_ELAPSED:
        del columns[-2]
    return [header for header, _ in columns], [list(row) for row in zip(*(cells for _, cells in columns), strict=True)]


def epochs_table(
    lines: Sequence[Mapping[str, Any]], metric: str | None, target: int | None, width: int | None
) -> tuple[Columns, list[str]]:
    """Return headers and a row per epoch with as many metrics as fit, the run's own first; and the metrics left out.

    Args:
        lines: epochs, with the fields of `EpochLine`.
        metric, target, width: as for `trials_table`.
    """
    names = list(sort_metrics({name: None for line in lines for name in line["metrics"]}, metric))
    room, fitting = (width or 0) - 30, 0
    for name in names:
        room -= max(len(name), 9) + 2
        if width is not None and room < 0 and fitting:
            break
        fitting += 1
    cells = [
        [
            progress(line["epoch"] + 1, target),
            format_number(line.get("step")),
            *(format_number(line["metrics"].get(name)) for name in names[:fitting]),
            format_duration(line.get("elapsed")),
        ]
        for line in lines
    ]
    return (["epoch", "step", *names[:fitting], "elapsed"], cells), names[fitting:]


def closing_facts(view: RunView) -> list[tuple[str, str]]:
    """Return (label, text) of a run that ended: how, its best, its test score, where things are, what to do next."""
    end, test = view.end or {}, view.test or {}
    counts = f": {view.counts_text()}" if view.rows else ""
    retries = f", {view.retries_text()}" if view.retries else ""
    state = f"{end.get('state', 'failed')} in {format_duration(end.get('seconds'))}"
    best, uri = end.get("best") or {}, end.get("uri") or view.uri
    facts = {
        "end": f"{view.run} {state}{retries}{counts}",
        "error": one_line(end.get("error") or ""),
        "best": best_text(best, view.metric) if best else "",
        "test": format_pairs(sort_metrics(test.get("metrics") or {}), short=False),
        "checkpoint": str(best.get("checkpoint") or test.get("checkpoint") or view.checkpoint or ""),
        "log": view.log or "",
        "results": results_command(uri, view.run) if uri else "",
    }
    return [(label, text) for label, text in facts.items() if text or (label == "test" and view.test is not None)]


def results_command(uri: str, run: str) -> str:
    """Return the command that shows a run again; `uri` is the run's or its storage's."""
    is_run = uri.partition("?")[0].rstrip("/").endswith(f"/{run}")
    return command("trainer", "results", uri if is_run else join_uri(uri, run))


def best_text(best: Mapping[str, Any], metric: str | None) -> str:
    """Return `t00001 val_acc=0.95 at epoch 2: lr=0.05` for the best of the event `end`, whose epoch is an index."""
    trial = f"{best['trial']} " if best.get("trial") else ""
    epoch = f" at epoch {best['epoch'] + 1}" if best.get("epoch") is not None else ""
    params = f": {format_pairs(best['params'])}" if best.get("params") else ""
    return f"{trial}{best.get('metric') or metric}={format_number(best.get('value'))}{epoch}{params}"
