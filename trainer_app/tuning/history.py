"""What a scheduler learns from the trials of earlier attempts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ray.tune.schedulers import AsyncHyperBandScheduler

from trainer_app.tuning.schedulers import Asha, Median
from trainer_app.tuning.stop_reasons import METRIC, TIME

MAX_SEEN: Final = 200  # results in a trial's record; of more, a resume reads the trial's metrics


@dataclass(frozen=True)
class PastTrial:
    """A trial of an earlier attempt, as a scheduler sees it."""

    trial_id: str


def learns_from(scheduler: Any, *, ended: bool) -> bool:
    """Return whether the scheduler learns from an earlier attempt's trial; `ended`: the trial is over."""
    return isinstance(scheduler, Asha) or (isinstance(scheduler, Median) and ended)


def seen_by(scheduler: Any, results: Sequence[tuple[int, float]]) -> dict[str, list[tuple[int, float]]]:
    """Return what the record of a trial that is over says for `replay`, so that its metrics need not be read again.

    Args:
        results: (epochs, objective) of each epoch.

    Returns:
        by the scheduler's settings, the results that it learns from; {} if there are none, or too many.
    """
    kept = list(_rung_results(scheduler, results)) if isinstance(scheduler, Asha) else list(results)
    return {scheduler.settings: kept} if learns_from(scheduler, ended=True) and len(kept) <= MAX_SEEN else {}


def _rung_results(scheduler: Asha, results: Sequence[tuple[int, float]]) -> Iterator[tuple[int, float]]:
    """Yield the results that ASHA's rungs record, of whichever bracket the trial is in, and the last."""
    brackets = [[milestone for milestone, _ in bracket._rungs] for bracket in scheduler._brackets]
    for number, (epochs, value) in enumerate(results):
        recorded = False
        for milestones in () if scheduler._worst({METRIC: value}) else brackets:
            reached = next((milestone for milestone in milestones if milestone <= epochs), None)
            if reached is not None:
                milestones.remove(reached)
                recorded = True
        if recorded or number == len(results) - 1:
            yield epochs, value


def replay(scheduler: Any, trial: str, results: Sequence[tuple[int, float]], *, ended: bool) -> None:
    """Report an earlier attempt's trial to a new scheduler, so that its rungs and medians continue.

    ASHA and median stopping learn from it; HyperBand and PBT start new brackets and populations.

    Args:
        scheduler, trial: from `schedulers.build`, and the trial's name.
        results: (epochs, objective) of each epoch, or those that `seen_by` returned.
        ended: whether the trial is over.
    """
    if not results or not learns_from(scheduler, ended=ended):
        return
    past_trial, reports = PastTrial(trial), [{TIME: epochs, METRIC: value} for epochs, value in results]
    if isinstance(scheduler, Asha):
        scheduler.on_trial_add(None, past_trial)
        for report in reports:
            if not scheduler._worst(report):  # without a reason, which costs a cut-off for each rung
                AsyncHyperBandScheduler.on_trial_result(scheduler, None, past_trial, report)
        if ended:
            scheduler.on_trial_complete(None, past_trial, reports[-1])
    else:
        for report in reports:
            scheduler.on_trial_complete(None, past_trial, report)
    scheduler.reasons.pop(trial, None)
