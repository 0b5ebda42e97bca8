"""The block `tune`: search space, searcher and scheduler. Times are epochs."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from trainer_app.config.fields import Block, OneOfBlock, Resources, refusal
from trainer_app.config.space import Primitive

BOHB = "it needs hpbandster, which has had no release since 2018; optuna's tpe with hyperband or asha is its kind"
_MAX_T = "Epochs after which a trial is stopped; trainer.max_epochs if not given."


class Fifo(Block):
    """No early stopping."""


class Asha(Block):
    """`ray.tune.schedulers.ASHAScheduler`: at each rung only the best 1/reduction_factor continue."""

    max_t: int | None = Field(None, ge=1, description=_MAX_T)
    grace_period: int = Field(1, ge=1, description="Epochs that every trial gets.")
    reduction_factor: float = Field(4.0, gt=1, description="One of this many trials continues at each rung.")
    brackets: int = Field(1, ge=1, description="Number of brackets; each has another first rung.")
    stop_last_trials: bool = Field(True, description="Stop trials at max_t.")

    @model_validator(mode="after")
    def _check(self) -> Asha:
        if self.max_t is not None and self.max_t < self.grace_period:
            raise refusal(f"grace_period ({self.grace_period}) must be at most max_t ({self.max_t})")
        return self


class Hyperband(Block):
    """`ray.tune.schedulers.HyperBandScheduler`: synchronous brackets; trials pause at rungs."""

    max_t: int | None = Field(None, ge=1, description=_MAX_T)
    reduction_factor: float = Field(3.0, gt=1, description="One of this many trials continues at each rung.")
    stop_last_trials: bool = Field(True, description="Stop trials at max_t.")


class Median(Block):
    """`ray.tune.schedulers.MedianStoppingRule`: stops what is below the median of the others' running means."""

    grace_period: int = Field(1, ge=1, description="Epochs that every trial gets; means count from here on.")
    min_samples_required: int = Field(3, ge=1, description="Trials that a median needs.")
    min_time_slice: int = Field(0, ge=0, description="Fewest epochs of a trial before it may be paused.")
    hard_stop: bool = Field(True, description="Stop trials; false pauses them until the others are done.")


def _mutation_kind(value: Any) -> str:
    return "|list" if isinstance(value, list) else "|primitive"


Values = Annotated[list[Any], Field(min_length=1)]
Mutation = Annotated[
    Annotated[Primitive, Tag("|primitive")] | Annotated[Values, Tag("|list")], Discriminator(_mutation_kind)
]


class Pbt(Block):
    """`ray.tune.schedulers.PopulationBasedTraining`: bad trials copy good ones, with changed parameters."""

    method: Literal["pbt", "pb2"] = Field(
        "pbt",
        description="pb2: `ray.tune.schedulers.pb2.PB2`, where a Gaussian process chooses the changed parameters.",
    )
    perturbation_interval: int = Field(1, ge=1, description="Epochs between two exploits of a trial.")
    burn_in_period: int = Field(0, ge=0, description="Epochs before the first.")
    mutations: dict[str, Mutation] = Field(
        default_factory=dict,
        description="Parameters that change, by dotted key: a primitive to draw anew from, or a list of values.",
    )
    quantile_fraction: float = Field(0.25, ge=0, le=0.5, description="Part of the trials at each end.")
    resample_probability: float = Field(0.25, ge=0, le=1, description="Draw anew instead of a step up or down.")
    perturbation_factors: Annotated[list[float], Field(min_length=2, max_length=2)] = Field(
        default=[1.2, 0.8], description="Factors of a step up and down."
    )
    synch: bool = Field(False, description="Wait for all trials before each exploit.")

    @model_validator(mode="after")
    def _check(self) -> Pbt:
        if self.method == "pb2":
            for key, mutation in self.mutations.items():
                if isinstance(mutation, list) or mutation.kind not in ("uniform", "loguniform"):
                    raise refusal(
                        f"pb2 changes numbers between two bounds, and {key} has none", "uniform or loguniform"
                    )
        return self


class Scheduler(OneOfBlock):
    """The scheduler, which stops trials: a name, or a name with the parameters of Ray Tune's class."""

    what = "scheduler"
    refused: ClassVar = {"pb2": "it is a method of pbt; write {pbt: {method: pb2, mutations: ...}}", "bohb": BOHB}
    fifo: Fifo | None = Field(None, description="No early stopping.")
    asha: Asha | None = Field(None, description="Asynchronous successive halving.")
    hyperband: Hyperband | None = Field(None, description="Synchronous HyperBand; one worker a trial.")
    median: Median | None = Field(None, description="Median stopping rule.")
    pbt: Pbt | None = Field(None, description="Population based training; one worker a trial.")

    @property
    def pauses(self) -> bool:
        """Whether it pauses trials in favour of others, and so has to see all of them at once."""
        median = self.median is not None and bool(not self.median.hard_stop or self.median.min_time_slice)
        return median or self.kind in ("pbt", "hyperband")


class RandomSearch(Block):
    """Independent draws and grids: `ray.tune.search.BasicVariantGenerator`."""

    seed: int | None = Field(None, ge=0, description="Seed of the draws; the run's own if not given.")


Sampler = Literal["tpe", "gp", "cmaes", "nsga2", "qmc", "random"]


class Optuna(Block):
    """`ray.tune.search.optuna.OptunaSearch` with one of Optuna's samplers."""

    sampler: Sampler = Field(
        "tpe",
        description="TPE; a Gaussian process; CMA-ES; NSGA-II; quasi-random points; or random ones.",
    )
    seed: int | None = Field(None, ge=0, description="Seed of the sampler; the run's own if not given.")
    n_startup_trials: int = Field(10, ge=0, description="Of tpe, gp and cmaes: random trials before the model decides.")
    multivariate: bool = Field(False, description="Of tpe: model parameters jointly.")
    population_size: int = Field(50, ge=2, description="Of nsga2: trials of a generation.")
    metrics: dict[str, Literal["min", "max"]] = Field(
        default_factory=dict,
        description="Further metrics, each with its mode: the sampler learns from them beside tune.metric.",
    )

    @model_validator(mode="after")
    def _check(self) -> Optuna:
        of = {"n_startup_trials": ("tpe", "gp", "cmaes"), "multivariate": ("tpe",), "population_size": ("nsga2",)}
        for name, samplers in of.items():
            if getattr(self, name) != type(self).model_fields[name].default and self.sampler not in samplers:
                raise refusal(f"{name} is not for sampler {self.sampler}", f"it is for {', '.join(samplers)}")
        if self.metrics and self.sampler == "cmaes":
            raise refusal("cmaes learns from one metric", "nsga2, tpe or gp with several metrics")
        return self


class Searcher(OneOfBlock):
    """The searcher, which proposes parameters: a name, or a name with its parameters."""

    what = "searcher"
    refused: ClassVar = {"bohb": BOHB}
    random: RandomSearch | None = Field(None, description="Independent draws and grids.")
    optuna: Optuna | None = Field(None, description="Bayesian search.")


class Repeat(Block):
    """The best trials again, with other seeds."""

    best: int = Field(1, ge=1, description="How many of the best trials.")
    seeds: int = Field(5, ge=2, description="How often each, with the seeds after the run's own.")

    @property
    def trials(self) -> int:
        """How many trials that makes."""
        return self.best * self.seeds


class Tune(Block):
    """A sweep."""

    metric: str = Field(
        min_length=1,
        description="Metric that decides which trial and checkpoint is best, as the module logs it: val/acc.",
    )
    mode: Literal["min", "max"] = Field(description="Whether a smaller or a larger metric is better.")
    num_samples: int = Field(10, ge=-1, description="Trials; times the size of the grid. -1 with time_budget_s only.")
    scheduler: Scheduler = Field(default_factory=lambda: Scheduler(fifo=Fifo()), description="Who stops trials.")
    searcher: Searcher = Field(
        default_factory=lambda: Searcher(random=RandomSearch()), description="Who proposes parameters."
    )
    start_from: list[str] = Field(
        default_factory=list,
        description="Earlier sweeps, by name, path or URI: Optuna learns from their trials, those that the space has.",
    )
    repeat: Repeat | None = Field(
        None, description="At the end the best trials again with other seeds: `trainer results` shows the mean of each."
    )
    time_budget_s: float | None = Field(None, gt=0, description="Seconds after which the sweep ends.")
    resources_per_trial: Resources | None = Field(None, description="For trials of one worker: CPU, GPU, custom.")
    max_concurrent_trials: int | None = Field(None, ge=1, description="Trials at once; computed if not given.")
    reuse_processes: bool = Field(
        default=True,
        description="For trials of one worker: start a trial in the process of one that is over, 4 s earlier. What it "
        "set there is restored, but not the globals of its modules.",
    )
    space: dict[str, Primitive] = Field(
        default_factory=dict, description="Dotted keys of this file, each with the primitive it is drawn from."
    )

    @property
    def num_trials(self) -> int | None:
        """Number of trials: each sample with every combination of the grids; None if only time ends the sweep."""
        grids = (len(p.args["values"]) for p in self.space.values() if p.kind == "grid_search")
        repeats = self.repeat.trials if self.repeat else 0
        return None if self.num_samples < 0 else self.num_samples * math.prod(grids) + repeats

    @model_validator(mode="after")
    def _check(self) -> Tune:
        if self.num_samples == 0:
            raise refusal("num_samples must be at least 1, or -1 with time_budget_s")
        if self.repeat and (self.num_samples < 0 or self.scheduler.pauses):
            reason = "num_samples -1 has no end" if self.num_samples < 0 else f"{self.scheduler.kind} pauses trials"
            raise refusal(
                f"repeat needs the end of the other trials: {reason}", "fifo, asha or median, num_samples >= 1"
            )
        if self.searcher.kind == "optuna" and self.metric in self.searcher.args.metrics:
            raise refusal(f"searcher.optuna.metrics has {self.metric}, which is tune.metric", "further metrics only")
        if self.num_samples == -1 and self.time_budget_s is None:
            raise refusal("num_samples -1 never ends without time_budget_s", "set time_budget_s, or num_samples >= 1")
        return self
