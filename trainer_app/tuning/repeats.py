"""The best trials of a sweep again, each with other seeds: how much of their value is luck."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainer_app.config import RunConfig, require_tune
from trainer_app.metric_order import sort_key
from trainer_app.records import TrialRecord, to_json, trial_name
from trainer_app.run.believed import SEED


class Repeats:
    """What `tune.repeat` adds to a sweep: trials after all others, of the best ones' parameters and a seed.

    Args:
        records: of all trials, by trial; the sweep keeps them up to date.
    """

    def __init__(self, config: RunConfig, records: Mapping[str, TrialRecord]) -> None:
        tuning = require_tune(config)
        assert tuning.repeat is not None and tuning.num_trials is not None
        self.first = tuning.num_trials - tuning.repeat.trials
        self._best, self._seeds, self._mode = tuning.repeat.best, tuning.repeat.seeds, tuning.mode
        self._records, self._seed = records, int(config.seed_everything or 0)

    def params(self, index: int) -> dict[str, Any] | None:
        """Return the parameters of a repeat once all other trials have ended; None if there are no so many good ones.

        Args:
            index: of the trial in the sweep.
        """
        others = [self._records.get(trial_name(number)) for number in range(self.first)]
        good = [record for record in others if record and record.best is not None and record.state != "failed"]
        good.sort(key=lambda record: (sort_key(record.best, self._mode), record.index))
        distinct = list({to_json(record.params): record.params for record in good}.values())
        number, seed = divmod(index - self.first, self._seeds)
        seed = (self._seed + 1 + seed) % 2**32  # Lightning's seeds end there
        return {**distinct[number], SEED: seed} if number < min(self._best, len(distinct)) else None
