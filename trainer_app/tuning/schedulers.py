"""Ray Tune's schedulers, which count epochs and say why they stopped a trial."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import (
    AsyncHyperBandScheduler,
    FIFOScheduler,
    HyperBandScheduler,
    MedianStoppingRule,
    TrialScheduler,
)

from trainer_app.config import RunConfig
from trainer_app.tuning.population import Pb2, Pbt, PbtMixin, pbt_arguments
from trainer_app.tuning.stop_reasons import METRIC, TIME, StopReasonMixin

NEVER = 10**9
# They pause trials or clone them, so every epoch that they see must be committed.
NEEDS_EVERY_EPOCH = ("hyperband", "median", "pbt")


class Asha(StopReasonMixin, AsyncHyperBandScheduler):
    """Asynchronous successive halving. NaN, and infinity on the wrong side, end a trial at its first rung.

    Ray 2.60 compares with `<`, which is false for NaN: such a trial passed every rung and ran to max_t. An infinity
    among the recorded values made the cut-off, an interpolation, NaN: then no trial was stopped.
    """

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if not self._worst(result):
            return super().on_trial_result(tune_controller, trial, result)
        epoch, rungs = result[TIME], self._trial_info[trial.trial_id]._rungs
        first = min((milestone for milestone, _ in rungs), default=self._max_t)
        decision: str = TrialScheduler.CONTINUE if epoch < first else TrialScheduler.STOP
        if decision == TrialScheduler.STOP:
            self._num_stopped += 1
            self.reasons[trial.trial_id] = f"asha: {result[METRIC]} at epoch {epoch} is worse than any value"
        return decision

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        if self._worst(result):
            self._trial_info.pop(trial.trial_id, None)  # not among the recorded values
        else:
            super().on_trial_complete(tune_controller, trial, result)

    def _worst(self, result: dict[str, Any]) -> bool:
        value = result.get(METRIC, 0.0) * self._metric_op
        return math.isnan(value) or value == -math.inf

    def explainer(self, trial: Any, result: dict[str, Any]) -> Callable[[], str]:
        epoch = result.get(TIME, 0)
        bracket = self._trial_info.get(trial.trial_id)
        rungs = bracket._rungs if bracket else []
        cutoffs = [bracket.cutoff(recorded) for milestone, recorded in rungs if milestone <= epoch]

        def explain() -> str:
            if epoch >= self._max_t:
                return f"reached max_t {self._max_t}"
            cutoff = next((c for c in cutoffs if c is not None), None)
            against = "" if cutoff is None else f" against {self._metric_op * cutoff:.4g}"
            return (
                f"asha: {result[METRIC]:.4g} at epoch {epoch}{against}, not among the best 1/{self._reduction_factor:g}"
            )

        return explain


class HyperBand(StopReasonMixin, HyperBandScheduler):
    """Synchronous HyperBand, which also ends trials while they are paused."""

    completing: Any = None  # the trial that Tune completes

    def _end_others(self, tune_controller: Any, trial: Any) -> None:
        """End a finished bracket's other trials that are paused.

        Ray 2.60 does so when one reports that it reached max_t. It forgets those that are being saved for the pause,
        and all of them if the last one failed or ended by itself: they were never started or ended, and the sweep
        hung. Seen when two reached max_t at about the same time.
        """
        bracket, _ = self._trial_info[trial]
        if bracket.finished():
            for other in bracket.current_trials():
                if other is not trial and (other.is_saving or other.status == Trial.PAUSED):
                    tune_controller.stop_trial(other)

    def explainer(self, trial: Any, result: dict[str, Any]) -> Callable[[], str]:
        self.last = {**getattr(self, "last", {}), trial.trial_id: result}
        return lambda: self._why(trial)

    def _why(self, trial: Any) -> str:
        result = getattr(self, "last", {}).get(trial.trial_id, {})
        epoch = result.get(TIME, 0)
        if epoch >= self._max_t_attr:
            return f"reached max_t {self._max_t_attr}"
        return f"hyperband: {result.get(METRIC, math.nan):.4g} at epoch {epoch}, not among the best of its bracket"

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        self.completing = trial
        super().on_trial_complete(tune_controller, trial, result)
        self.completing = None

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        if trial is not self.completing or trial.is_saving:  # also one that is being saved for its pause
            self.reasons.setdefault(trial.trial_id, self._why(trial))
        super().on_trial_remove(tune_controller, trial)
        self._end_others(tune_controller, trial)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        if trial.status != Trial.ERROR:  # else Tune starts it again: it keeps its place in its bracket
            super().on_trial_error(tune_controller, trial)

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        if trial not in self._trial_info:
            super().on_trial_add(tune_controller, trial)


class Median(StopReasonMixin, MedianStoppingRule):
    """Median stopping rule."""

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        if TIME in result and METRIC in result:  # a resumed trial may have had nothing left to report
            super().on_trial_complete(tune_controller, trial, self.without_nan(result))

    def explainer(self, trial: Any, result: dict[str, Any]) -> Callable[[], str]:
        return lambda: f"median: best so far below the others' median at epoch {result.get(TIME)}"


class Fifo(StopReasonMixin, FIFOScheduler):
    """No early stopping."""


def build(config: RunConfig, *, epochs: int | None) -> Any:
    """Return the scheduler of `tune.scheduler`; `epochs`, the fit's length, is max_t if that is not given."""
    assert config.tune is not None
    kind, args = config.tune.scheduler.kind, config.tune.scheduler.args
    common = {"time_attr": TIME, "metric": METRIC, "mode": config.tune.mode}
    kwargs = args.model_dump()
    if "max_t" in kwargs and kwargs["max_t"] is None:
        kwargs["max_t"] = epochs or NEVER
    if kind == "pbt":
        kind, kwargs = args.method, pbt_arguments(args)
    if kind == "median" and not kwargs["min_time_slice"]:
        kwargs["min_time_slice"] = NEVER  # 0: trials are not paused in favour of others
    classes: Mapping[str, Any] = {"asha": Asha, "hyperband": HyperBand, "median": Median, "pbt": Pbt, "pb2": Pb2}
    scheduler = Fifo() if kind == "fifo" else classes[kind](**common, **kwargs)
    scheduler.reasons, scheduler.mode = {}, config.tune.mode
    scheduler.repeats_end = kwargs.get("max_t") if kwargs.get("stop_last_trials") else None
    scheduler.settings = f"{kind} {config.tune.metric} {config.tune.mode} {kwargs}"
    if isinstance(scheduler, PbtMixin):
        scheduler.last_epoch = epochs
    return scheduler
