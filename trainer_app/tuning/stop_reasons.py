"""What all schedulers have: they count epochs, take NaN for the worst value, and say why they stopped a trial."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray.tune.schedulers import TrialScheduler

from trainer_app.metric_order import replace_nan
from trainer_app.run.believed import SEED

TIME = "epochs"
METRIC = "objective"


class StopReasonMixin:
    """Mixin of a scheduler: `reasons[trial_id]` is why it stopped the trial.

    Ray's schedulers sort and compare, which NaN does not: HyperBand kept such trials, PBT cloned them, and median
    stopping saw no better value after one. They get the worst number instead.
    """

    reasons: dict[str, str]
    mode: str
    repeats_end: int | None = None  # after how many epochs a repeat of a trial ends, as the trial itself did

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if SEED in trial.config:  # it is there to be compared: nobody stops it
            ends = self.repeats_end is not None and result.get(TIME, 0) >= self.repeats_end
            if ends:
                self.reasons[trial.trial_id] = f"reached epoch {self.repeats_end}"
            return str(TrialScheduler.STOP if ends else TrialScheduler.CONTINUE)
        explain = self.explainer(trial, result)
        decision: str = super().on_trial_result(tune_controller, trial, self.without_nan(result))  # type: ignore[misc]
        if decision == TrialScheduler.STOP:
            self.reasons[trial.trial_id] = explain()
        return decision

    def without_nan(self, result: dict[str, Any]) -> dict[str, Any]:
        """Return a result with the worst number in place of NaN."""
        return {**result, METRIC: replace_nan(result[METRIC], self.mode)} if METRIC in result else result

    def explainer(self, trial: Any, result: dict[str, Any]) -> Callable[[], str]:
        """Read the state before the result counts; return a function that returns the reason."""
        name = type(self).__name__.lower()
        return lambda: f"{name}: stopped at epoch {result.get(TIME)} with {result.get(METRIC):.4g}"
