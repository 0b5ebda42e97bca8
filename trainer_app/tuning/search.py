"""Which trial is next: those that an earlier attempt left unfinished, then new ones."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ray.tune.experiment import Experiment, Trial
from ray.tune.search import SearchAlgorithm, Searcher

from trainer_app import ray_compat
from trainer_app.metric_order import replace_nan
from trainer_app.records import to_plain, trial_name
from trainer_app.run.believed import SEED
from trainer_app.tuning.repeats import Repeats

Planned = tuple[int, dict[str, Any]]


@dataclass(eq=False, kw_only=True)
class ResumableSearch(SearchAlgorithm):
    """A search algorithm that names trials by their index: t00000, t00001, ...

    Ray's own search algorithms name trials at random and forget them with the process; here trial i is the same trial
    in every attempt of the sweep.
    """

    unfinished: list[Planned]  # (index, parameters) of trials to resume
    draws: Iterator[dict[str, Any]]  # parameters for indices from `start` on; ignored if there is a `searcher`
    start: int  # the first new index
    total: int | None  # how many trials there are in all, None without bound
    max_concurrent: int  # how many may be live at once
    searcher: Searcher | None = None  # suggests parameters and learns from results
    repeats: Repeats | None = None  # the trials at the end that are others again
    stopping: threading.Event = field(default_factory=threading.Event)  # set when no more trials may begin

    def __post_init__(self) -> None:
        self._next = self.start
        self._asked: set[str] = set()
        self._params: dict[str, dict[str, Any]] = {}
        self._live: set[str] = set()
        self._experiment: Experiment | None = None
        self._parser = ray_compat._make_parser()

    def __getstate__(self) -> dict[str, Any]:
        """Return nothing: Tune pickles its search algorithm into snapshots that are never read."""
        return {}

    @property
    def total_samples(self) -> int:
        return self.total or 0

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        return True

    def add_configurations(self, experiments: Any) -> None:
        (self._experiment,) = experiments if isinstance(experiments, list) else [experiments]

    def is_finished(self) -> bool:
        return (
            self._finished
            or self.stopping.is_set()
            or (not self.unfinished and self.total is not None and self._next >= self.total)
        )

    def next_trial(self) -> Trial | None:
        if self.is_finished() or len(self._live) >= self.max_concurrent:
            return None
        planned = self.unfinished.pop(0) if self.unfinished else self._draw()
        if planned is None:
            return None
        index, params = planned
        name = trial_name(index)
        self._live.add(name)
        self._params[name] = params
        return self._make_trial(name, params)

    def _draw(self) -> Planned | None:
        """Return a new trial from the searcher or the draws; None if there is none, or none yet."""
        index = self._next
        if self.repeats is not None and index >= self.repeats.first:
            return self._repeat(index, self.repeats)
        if self.searcher is not None:
            suggested = self.searcher.suggest(trial_name(index))
            if suggested is None:
                return None
            if suggested == Searcher.FINISHED:
                self._finished = True
                return None
            self._asked.add(trial_name(index))
            params = {key: to_plain(value, key) for key, value in suggested.items()}
        else:
            drawn = next(self.draws, None)
            if drawn is None:
                self._finished = True
                return None
            params = drawn
        self._next += 1
        return index, params

    def _repeat(self, index: int, repeats: Repeats) -> Planned | None:
        """Return a trial that is another one again; None if there is none, or as long as others run."""
        if any(int(name[1:]) < repeats.first for name in self._live):
            return None
        params = repeats.params(index)
        if params is None:
            self._finished = True
            return None
        self._next += 1
        return index, params

    def _make_trial(self, name: str, params: Mapping[str, Any]) -> Trial:
        assert self._experiment is not None
        spec = copy.deepcopy(self._experiment.spec)
        spec["config"] = dict(params)
        trial: Trial = ray_compat._create_trial_from_spec(
            spec, self._parser, evaluated_params=dict(params), experiment_tag=name, trial_id=name
        )
        return trial

    # --- what the searcher learns from

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        if trial_id in self._asked and self.searcher is not None and "objective" in result:
            self.searcher.on_trial_result(trial_id, self._without_nan(result))

    def on_trial_complete(  # Tune's signature
        self,
        trial_id: str,
        result: dict[str, Any] | None = None,
        error: bool = False,  # noqa: FBT001, FBT002
    ) -> None:
        self._live.discard(trial_id)
        if self.searcher is None:
            return
        failed = error or not result or "error" in result or "objective" not in result
        if trial_id in self._asked:
            self.searcher.on_trial_complete(trial_id, None if failed else self._without_nan(result), error=failed)
        elif result and not failed and SEED not in self._params[trial_id]:
            value = self._without_nan(result)["objective"]
            self.searcher.add_evaluated_point(self._params[trial_id], value, metrics=result.get("metrics"))

    def _without_nan(self, result: dict[str, Any] | None) -> dict[str, Any]:
        """Return a result with the worst number in place of NaN, which Optuna does not learn from."""
        assert result is not None and self.searcher is not None
        return {**result, "objective": replace_nan(result["objective"], self.searcher.mode)}

    def close(self) -> None:
        """Keep what the searcher has to keep; no more trials come."""
        if send := getattr(self.searcher, "send", None):
            send(last=True)

    def save_to_dir(self, dirpath: str, **kwargs: Any) -> None:
        """Save nothing: the sweep's own records decide what is finished."""
