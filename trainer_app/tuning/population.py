"""Population based training: PBT, and PB2."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from ray.tune.schedulers import PopulationBasedTraining, TrialScheduler
from ray.tune.schedulers.pb2 import PB2

from trainer_app.records import to_plain
from trainer_app.tuning.space import domain
from trainer_app.tuning.stop_reasons import TIME, StopReasonMixin


class PbtMixin(StopReasonMixin):
    """What Ray's population based training lacks, by either method."""

    _trial_state: Any
    _save_trial_state: Any
    last_epoch: int | None = None

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        if trial not in self._trial_state:  # else Tune starts it again: it keeps its score
            super().on_trial_add(tune_controller, trial)  # type: ignore[misc]

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if self.last_epoch is not None and result.get(TIME, 0) >= self.last_epoch:
            # At its end a trial must not clone another: it would train its last epoch again and again.
            self._save_trial_state(self._trial_state[trial], result[TIME], self.without_nan(result), trial)
            return str(TrialScheduler.CONTINUE)
        return super().on_trial_result(tune_controller, trial, result)

    def _checkpoint_or_exploit(self, trial: Any, tune_controller: Any, upper: list[Any], lower: list[Any]) -> None:
        """Save every trial that does not clone another one.

        Ray 2.60 saves a trial that is among the best when it reports. One that reports first has no other to be better
        than, was not saved, and could not be cloned an interval later ("no checkpoint ... Skip exploit"): two trials
        at about the same speed may never exploit.
        """
        saved = upper if trial in lower or trial in upper else [*upper, trial]
        super()._checkpoint_or_exploit(trial, tune_controller, saved, lower)  # type: ignore[misc]


class Pbt(PbtMixin, PopulationBasedTraining):
    """Population based training."""


class Pb2(PbtMixin, PB2):
    """Population based training whose changed parameters a Gaussian process chooses."""

    data: Any  # a data frame with a line for each report

    def _get_new_config(self, trial: Any, trial_to_clone: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the parameters; those of the clone if the process can't learn: it has too few finite rewards."""
        self.data = self.data[np.isfinite(self.data.Reward.astype(float))].reset_index(drop=True)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of scikit-learn, of each fit of its process
                config, operations = super()._get_new_config(trial, trial_to_clone)
        except (ValueError, IndexError, KeyError):
            return dict(trial_to_clone.config), {}
        return {key: to_plain(value, key) for key, value in config.items()}, operations


def pbt_arguments(args: Any) -> dict[str, Any]:
    """Return the arguments of Ray's class for the block `pbt`, by either method."""
    common = {"perturbation_interval": args.perturbation_interval, "quantile_fraction": args.quantile_fraction}
    common |= {"synch": args.synch, "log_config": False}
    if args.method == "pb2":
        bounds = {key: [value.args["lower"], value.args["upper"]] for key, value in args.mutations.items()}
        return {**common, "hyperparam_bounds": bounds}
    return {
        **common,
        "burn_in_period": args.burn_in_period,
        "resample_probability": args.resample_probability,
        "perturbation_factors": tuple(args.perturbation_factors),
        "hyperparam_mutations": {
            key: value if isinstance(value, list) else domain(key, value) for key, value in args.mutations.items()
        },
    }
