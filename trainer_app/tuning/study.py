"""Optuna's part of a sweep: the sampler by name, the study beside the run, and the trials of earlier sweeps."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState, create_trial
from ray import tune
from ray.tune.search.optuna import OptunaSearch

from trainer_app import results
from trainer_app.config import Primitive, RunConfig, require_tune
from trainer_app.errors import InputError, StorageError
from trainer_app.metric_order import replace_nan
from trainer_app.records import RunFolder, TrialRecord, to_json
from trainer_app.storage import open_store
from trainer_app.storage.retrying import say
from trainer_app.temporary import make_folder
from trainer_app.tuning import space
from trainer_app.tuning.stop_reasons import METRIC

_log = logging.getLogger(__name__)
JOURNAL: Final = "artifacts/optuna/study.log"  # optuna-dashboard opens a copy of it
SEND_S: Final = 10.0  # between two uploads of the journal, which is whole each time
_SAMPLERS: Final[Mapping[str, Callable[..., Any]]] = {
    "tpe": optuna.samplers.TPESampler,
    "gp": optuna.samplers.GPSampler,
    "cmaes": optuna.samplers.CmaEsSampler,
    "nsga2": optuna.samplers.NSGAIISampler,
    "qmc": optuna.samplers.QMCSampler,
    "random": optuna.samplers.RandomSampler,
}


class StudySearch(OptunaSearch):
    """Ray's OptunaSearch for one or several metrics, whose study is a journal in a local file.

    Args:
        config: of a sweep whose searcher is Optuna.
        sampler: Optuna's.
        folder: of the run; it gets the journal.
    """

    def __init__(self, config: RunConfig, sampler: Any, folder: RunFolder) -> None:
        tuning = require_tune(config)
        self.modes: dict[str, str] = {tuning.metric: tuning.mode, **tuning.searcher.args.metrics}
        self._texts = {key: texts for key, one in tuning.space.items() if (texts := _choices_as_texts(one))}
        domains = space.domains(tuning.space) | {key: tune.choice(list(texts)) for key, texts in self._texts.items()}
        self._folder, self._sent = folder, 0.0
        self._journal = make_folder(f"{folder.name}-optuna") / "study.log"
        several = len(self.modes) > 1
        super().__init__(
            space=domains,
            metric=[METRIC, *tuning.searcher.args.metrics] if several else METRIC,
            mode=list(self.modes.values()) if several else tuning.mode,
            sampler=sampler,
            study_name=folder.name,
            storage=JournalStorage(JournalFileBackend(str(self._journal))),
        )

    @property
    def mode(self) -> str:
        """That of `tune.metric`, by which the sweep's best trial is chosen."""
        return next(iter(self.modes.values()))

    def suggest(self, trial_id: str) -> dict[str, Any]:
        """Return the parameters of a new trial, by key of the space."""
        drawn: dict[str, Any] = super().suggest(trial_id) or {}
        return {key: self._texts[key][value] if key in self._texts else value for key, value in drawn.items()}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:  # noqa: FBT001, FBT002
        """Tell the study the values of a trial's last epoch; a trial without one of them has failed."""
        values = self._values(result["objective"], result.get("metrics") or {}) if result and not error else None
        state = TrialState.COMPLETE if values else TrialState.FAIL
        self._ot_study.tell(self._ot_trials[trial_id], values, state=state)
        self._completed_trials.add(trial_id)
        self.send()

    def add_evaluated_point(
        self, parameters: dict[str, Any], value: float, *_: Any, metrics: Mapping[str, float] | None = None, **__: Any
    ) -> None:
        """Add a trial that another attempt, or another sweep, has run.

        Args:
            parameters: by key of the space.
            value: that of `tune.metric`.
            metrics: all of its last epoch.

        Raises:
            ValueError: the space does not have these parameters.
        """
        values = self._values(value, metrics or {})
        params = {key: _as_text(one) if key in self._texts else one for key, one in parameters.items()}
        if values:
            self._ot_study.add_trial(create_trial(params=params, distributions=self._space, values=values))

    def _values(self, objective: float, metrics: Mapping[str, float]) -> list[float] | None:
        """Return the values of all metrics, the worst number in place of NaN; None if one is missing."""
        first, *others = self.modes
        values = {first: objective, **{name: metrics[name] for name in others if name in metrics}}
        if len(values) < len(self.modes):
            return None
        return [float(replace_nan(values[name], mode)) for name, mode in self.modes.items()]

    def send(self, *, last: bool = False) -> None:
        """Put the journal beside the run, at most every SEND_S, and at the end: what it lacks ends no sweep."""
        if (last or time.monotonic() - self._sent >= SEND_S) and self._journal.exists():
            self._sent = time.monotonic()
            try:
                self._folder.run_store.put_file(JOURNAL, self._journal)
            except StorageError as error:
                _log.warning("the study could not be written: %s", error)


def _choices_as_texts(primitive: Primitive) -> dict[str, Any]:
    """Return choices by text if Optuna can't tell them apart, which compares them: lists, or 1, 1.0 and true."""
    values = primitive.args["categories"] if primitive.kind == "choice" else []
    plain = all(one is None or isinstance(one, str | int | float) for one in values)
    return {} if plain and len(set(values)) == len(values) else {_as_text(one): one for one in values}


def _as_text(value: Any) -> str:
    return to_json(value, tagged=True, default=str).decode()


def check_searcher(config: RunConfig) -> None:
    """Check a sweep's earlier ones before it starts.

    Raises:
        NotFoundError: there is no such run. InputError: it is no sweep.
    """
    for run in require_tune(config).start_from:
        if _open_run(config, run).record.task != "tune":
            raise InputError(f"tune.start_from: {run} is a train run; it names earlier sweeps")


def build_searcher(config: RunConfig, folder: RunFolder, *, seed: Any, start: int) -> StudySearch:
    """Return the searcher, which knows the trials of `tune.start_from`.

    Args:
        folder: of the run.
        seed: an integer; anything else samples at random.
        start: how many trials earlier attempts began; added to the seed, so that new trials differ.
    """
    args = require_tune(config).searcher.args
    options: dict[str, Any] = {"seed": seed + start if isinstance(seed, int) else None}
    if args.sampler in ("tpe", "gp", "cmaes"):
        options["n_startup_trials"] = args.n_startup_trials
    if args.sampler == "tpe":
        options["multivariate"] = args.multivariate
    if args.sampler == "nsga2":
        options["population_size"] = args.population_size
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        searcher = StudySearch(config, _SAMPLERS[args.sampler](**options), folder)
    for run in require_tune(config).start_from:
        if not add_trials(searcher, _open_run(config, run).read_trials()):
            why = f"no trial of it has ended, logged {', '.join(searcher.modes)}, and fits tune.space"
            say(f"tune.start_from: the sampler learns nothing from {run}: {why}")
    return searcher


def add_trials(searcher: StudySearch, records: Sequence[TrialRecord]) -> int:
    """Tell a searcher of another sweep's trials, and return how many it learns from."""
    known, metric = 0, next(iter(searcher.modes))
    for record in records:
        if record.teaches and searcher.modes.keys() <= record.metrics.keys():
            try:
                searcher.add_evaluated_point(record.params, record.metrics[metric], metrics=record.metrics)
            except (ValueError, TypeError, OverflowError):  # of another space
                continue
            known += 1
    return known


def _open_run(config: RunConfig, run: str) -> RunFolder:
    """Open an earlier sweep. Raises NotFoundError if there is none."""
    uri, name = results.resolve_run(run, config.storage.uri)
    return RunFolder.open(open_store(uri), name or run)
