"""The data of a page as one JSON document, of which `schema.json` is the schema. Fields are added, never changed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from trainer_app.errors import NotFoundError, StorageError
from trainer_app.records.plain_json import encode_floats
from trainer_app.report import sources, sweep
from trainer_app.report.clean import LONGEST, clean, shorten
from trainer_app.report.compare import comparison, differences
from trainer_app.report.curves import curves_of, metric_names, points_for
from trainer_app.report.timeline import attempts_of, phases_of, phases_of_run
from trainer_app.results import FitResults, RunResults, read_run
from trainer_app.storage import Store

FORMAT = 1
TEXTS = 1_500_000  # characters of all trials' errors and tracebacks together
MOST_PROBLEMS = 500
SHORT = 300  # characters of a reason in the timeline; the whole one is the fit's


def report_document(runs: Sequence[tuple[Store, str]], *, importance: bool = True) -> dict[str, Any]:
    """Return the data of a page.

    Times are unix seconds, epochs count from 0, non-finite numbers are the strings "nan", "inf" and "-inf". Texts are
    without secrets and control characters.

    Args:
        runs: the storage and the name of each.
        importance: how much parameters matter, too: seconds for a large sweep.

    Raises:
        NotFoundError: there is no such run. A run that is damaged is in the document, with its `problem`.
    """
    parts = [_read(storage, name, importance=importance) for storage, name in runs]
    described, rows = [part for part, _ in parts], differences([tree for _, tree in parts])
    document = {
        "format": FORMAT,
        "generated": time.time(),
        "version": _own_version(),
        "runs": described,
        "differences": rows,
        "comparison": comparison(described, rows),
    }
    return clean(encode_floats(document, tagged=False))


def _own_version() -> str:
    try:
        return version("trainer-app")
    except PackageNotFoundError:
        return ""


def _read(storage: Store, name: str, *, importance: bool) -> tuple[dict[str, Any], Any]:
    """Return what the page says of a run, and its run file as plain values; None if that is unknown."""
    try:
        run = read_run(storage, name)
    except NotFoundError:
        raise
    except StorageError as error:
        return {"name": name, "uri": storage.child(name).uri, "task": None, "state": None, "problem": str(error)}, None
    run_store = storage.child(name)
    file = sources.read_run_file(run_store)
    return {
        **_run(run, file, importance=importance),
        "log": sources.read_log(run_store),
        "host": sources.read_host(run_store),
    }, file.tree


def _run(run: RunResults, file: sources.RunFile, *, importance: bool) -> dict[str, Any]:
    metrics = metric_names((line for fit in run.fits for line in fit.history), run.record.metric)
    limit = points_for(len(run.fits), len(metrics))
    record = run.record.model_dump(exclude={"best", "resolved", "folders", "final", "exit_code", "past"})
    params = sweep.parameters(run, file.tree)
    texts = max(500, min(LONGEST, TEXTS // max(1, sum(sweep.reason_of(fit) != "" for fit in run.fits))))
    return {
        **record,
        "problem": None,
        "uri": run.uri,
        "target": run.record.target[0],
        "done": run.done,
        "last_sign": run.last_sign(),
        "silent": run.silent_for(time.time()),
        "attempts": [_short(one.model_dump()) for one in run.record.attempts],
        "phases": [_short(phase) for phase in phases_of_run(run)],
        "best": sources.hide(asdict(run.best)) if run.best else None,
        "checkpoint": run.checkpoint.uri if run.checkpoint else None,
        "metrics": metrics,
        "fits": [
            {
                **_fit(run, fit, metrics, limit, file.tree, texts=texts),
                "params": sweep.with_categories(sources.hide(fit.params), params),
            }
            for fit in run.fits
        ],
        "best_so_far": sweep.best_so_far(run),
        "parameters": params,
        **(sweep.analyse(run, params, importance=importance) if run.record.task == "tune" else sweep.NOTHING),
        "rungs": sweep.rungs(run, file.tree),
        "resolved": sources.hide(run.record.resolved),
        "run_file": file.text,
        "artifacts": [asdict(artifact) for artifact in run.artifacts],
        "problems": run.problems[:MOST_PROBLEMS],
    }


def _fit(run: RunResults, fit: FitResults, metrics: list[str], limit: int, tree: Any, *, texts: int) -> dict[str, Any]:
    record = fit.record
    return {
        "trial": fit.trial,
        "index": record.index if record else None,
        "state": run.state_of(fit) if fit.trial else run.record.state,
        "reason": shorten(sweep.reason_of(fit) if fit.trial else run.record.error or "", texts),
        "traceback": shorten(record.traceback, texts) if record and record.traceback else None,
        "epochs": fit.epochs,
        "value": fit.best.value if fit.best else None,
        "best_epoch": fit.best.epoch if fit.best else None,
        "seconds": sweep.seconds_of(fit),
        "started": record.started if record else None,
        "ended": record.ended if record else None,
        "attempts": attempts_of(fit),
        "phases": [_short(phase) for phase in phases_of(run, fit)],
        "checkpoints": [sources.checkpoint(one, tree) for one in fit.checkpoints],
        "curves": curves_of(fit.history, metrics, limit),
    }


def _short(item: dict[str, Any]) -> dict[str, Any]:
    return {**item, "reason": shorten(item["reason"], SHORT)}
