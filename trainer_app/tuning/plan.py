"""Plan what is left of a sweep: trials to resume, then new ones."""

from __future__ import annotations

import itertools
import logging
import re
import threading
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from trainer_app.config import RunConfig, require_tune
from trainer_app.formatting import one_line
from trainer_app.metric_order import replace_nan
from trainer_app.records import RunFolder, TrialRecord, trial_name
from trainer_app.run.believed import SEED, trial_params
from trainer_app.storage.parallel import map_parallel
from trainer_app.tuning import history, space
from trainer_app.tuning.repeats import Repeats
from trainer_app.tuning.search import ResumableSearch

_log = logging.getLogger(__name__)


def plan_search(
    config: RunConfig,
    folder: RunFolder,
    records: Mapping[str, TrialRecord],
    scheduler: Any,
    *,
    concurrency: int,
    stopping: threading.Event | None = None,
) -> ResumableSearch:
    """Return the trials that are left to run, and report those of earlier attempts to the searcher and the scheduler.

    Args:
        records: of earlier attempts, by trial.
        concurrency: how many trials may run at once.
        stopping: set when no more trials may begin.
    """
    tuning = require_tune(config)
    seed = tuning.searcher.args.seed if tuning.searcher.args.seed is not None else config.seed_everything
    draws = space.draws(tuning.space, num_samples=tuning.num_samples, seed=seed)
    start = _next_index(folder, records)
    skipped = list(itertools.islice(draws, start))
    searcher = _build_searcher(config, folder, seed, start) if tuning.searcher.kind == "optuna" else None
    left = [(r.index, trial_params(config, r.params, trial=r.trial)) for r in records.values() if not r.is_over]
    if searcher is None:  # drawn, but killed before they had a record
        left += [(i, params) for i, params in enumerate(skipped) if trial_name(i) not in records]
    objectives = _replay(folder, records.values(), tuning.metric, scheduler, searcher)
    for record in records.values():
        if searcher is not None and record.teaches and record.trial in objectives and SEED not in record.params:
            _teach(searcher, record, replace_nan(objectives[record.trial], tuning.mode))
    return ResumableSearch(
        unfinished=sorted(left, key=lambda planned: planned[0]),
        draws=draws,
        start=start,
        total=tuning.num_trials,
        max_concurrent=space.UNBOUNDED if tuning.scheduler.pauses else concurrency,
        searcher=searcher,
        repeats=Repeats(config, records) if tuning.repeat else None,
        stopping=stopping or threading.Event(),
    )


def _build_searcher(config: RunConfig, folder: RunFolder, seed: Any, start: int) -> Any:
    from trainer_app.tuning.study import build_searcher  # 0.5 s, which other sweeps save

    return build_searcher(config, folder, seed=seed, start=start)


def _teach(searcher: Any, record: TrialRecord, value: float) -> None:
    """Let the searcher learn from a trial that has ended, unless its parameters are none of the space's."""
    try:
        searcher.add_evaluated_point(record.params, value, metrics=record.metrics)
    except (ValueError, TypeError, OverflowError, KeyError) as error:
        _log.warning("the searcher does not learn from trial %s: %s", record.trial, one_line(error))


def _next_index(folder: RunFolder, records: Mapping[str, TrialRecord]) -> int:
    """Return the first index of a new trial.

    Folders without a readable record count too: what is in them belongs to other parameters than a new draw's.
    """
    names = [name for name in folder.run_store.list_folders("trials") if re.fullmatch(r"t\d{1,9}", name)]
    return max([*(r.index for r in records.values()), *(int(name[1:]) for name in names)], default=-1) + 1


def _replay(
    folder: RunFolder, records: Collection[TrialRecord], metric: str, scheduler: Any, searcher: Any
) -> dict[str, float]:
    """Report earlier trials to the scheduler, and return the last value of the metric, by trial.

    Metrics are read only of trials whose record does not say what the scheduler and the searcher learn from.

    Args:
        records: of the trials.
        searcher: None if it learns from nothing.
    """
    last = {record.trial: record.metrics[metric] for record in records if metric in record.metrics}

    def read(record: TrialRecord) -> Sequence[tuple[int, float]]:
        ended = record.is_over
        if ended and scheduler.settings in record.seen:
            return record.seen[scheduler.settings]
        asked = history.learns_from(scheduler, ended=ended)
        if not asked and not (searcher and ended and record.trial not in last):
            return ()
        lines = folder.fit_folder(record.trial).read_metrics()
        return [(line["epoch"] + 1, line["metrics"][metric]) for line in lines if metric in line["metrics"]]

    for record, results in zip(records, map_parallel(read, records), strict=True):
        history.replay(scheduler, record.trial, results, ended=record.is_over)
        if results:
            last[record.trial] = results[-1][1]
    return last
