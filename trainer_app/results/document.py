"""Results as one JSON document, for programs. Fields are added, never changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from trainer_app.records.plain_json import encode_floats
from trainer_app.results.listing import RunSummary
from trainer_app.results.model import FitResults, RunResults
from trainer_app.results.repeats import repeated_trials

FORMAT = 1


def run_document(results: RunResults, *, trial: str | None = None) -> dict[str, Any]:
    """Return what `trainer results --json` prints.

    Times are unix seconds; epochs count from 0, `epochs` is how many are done; non-finite numbers are the strings
    "nan", "inf" and "-inf".

    - `format`: 1; `uri`; all fields of run.json (name, task, state, created, updated, attempt, seed, metric, mode,
      error, traceback, use_gpu, versions, resolved, epochs: the target, num_samples, folders, done, best_value, tags,
      submission, final, exit_code, queued, started, reason, past: [{number, queued, started, ended, state, reason}])
    - `last_sign`: when the run last wrote anything
    - `best`: {trial, epoch, value, params, metrics} of all epochs, or null
    - `checkpoint`: the best committed one, {trial, name, uri, epochs, step, size, time, metrics, seconds}, or null
    - `history`, `checkpoints`: of a train run: [{epoch, step, time, elapsed, committed, metrics}], [as above]
    - `trials`: of a sweep, or only `trial`: [{all fields of trial.json, best, history, checkpoints}]; the
      state `interrupted` is that of a trial that was running when the run ended
    - `repeats`: of a sweep's trials that ran again with other seeds: [{trial, value, params, seeds, values, mean, low,
      high: of the mean's 95 % confidence interval}]
    - `artifacts`: what the project wrote, or only `trial`: [{name: its path below artifacts/, size: in bytes}]
    - `problems`: what could not be read, one line each
    """
    record = results.record.model_dump()
    record["best_value"] = record.pop("best")
    own = next((fit for fit in results.fits if fit.trial is None), None)
    trials = [fit for fit in results.trials if trial in (None, fit.trial)]
    document = {
        "format": FORMAT,
        "uri": results.uri,
        **record,
        "done": results.done,
        "last_sign": results.last_sign(),
        "best": asdict(results.best) if results.best else None,
        "checkpoint": asdict(results.checkpoint) if results.checkpoint else None,
        "history": own.history if own else [],
        "checkpoints": [asdict(checkpoint) for checkpoint in own.checkpoints] if own else [],
        "trials": [_trial(fit, results.state_of(fit)) for fit in trials],
        "repeats": [asdict(one) for one in repeated_trials(results)],
        "artifacts": [asdict(artifact) for artifact in results.artifacts_of(trial)],
        "problems": results.problems,
    }
    return encode_floats(document, tagged=False)


def list_document(uri: str, runs: Sequence[RunSummary]) -> dict[str, Any]:
    """Return what `trainer list --json` prints.

    `format`: 1; `uri`; `runs`: newest first [{name, uri, task, state, created, updated, last_sign, metric, mode,
    epochs: the target, num_samples, done, best_value, error, problem}]; a damaged run's own fields are null.
    """
    fields = ("task", "state", "created", "updated", "metric", "mode", "epochs", "num_samples", "error")
    rows = [
        {
            "name": run.name,
            "uri": run.uri,
            **{name: getattr(run.record, name, None) for name in fields},
            "last_sign": run.last_sign or None,
            "done": run.done,
            "best_value": run.best,
            "problem": run.problem,
        }
        for run in runs
    ]
    return encode_floats({"format": FORMAT, "uri": uri, "runs": rows}, tagged=False)


def _trial(fit: FitResults, state: str) -> dict[str, Any]:
    record = fit.record.model_dump() if fit.record else {"trial": fit.trial, "params": {}}
    return {
        **record,
        "state": state,
        "epochs": fit.epochs,
        "best": asdict(fit.best) if fit.best else None,
        "history": fit.history,
        "checkpoints": [asdict(checkpoint) for checkpoint in fit.checkpoints],
    }
