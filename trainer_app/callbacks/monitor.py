"""The metric that decides which commit or trial is best: some epoch of the run has to log it."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass

import lightning as L

from trainer_app.errors import TrainerError
from trainer_app.records import FitFolder


@dataclass
class MonitorCheck:
    """Misses a metric at a run's end, not before: modules log at cadences of their own. The log hints at it earlier."""

    name: str | None
    key: str  # where the run file names it
    needed: bool  # also if the fit ends before its first validation
    validated: bool = False
    hinted: bool = False

    def hint(self, metrics: dict[str, float]) -> None:
        """Write to the log, once, that the first epoch with a validation does not log what may be misspelled."""
        if self.validated and not self.hinted and self.name not in (None, *metrics):
            print(f"{self._describe(metrics)}. An error, at the end, if no epoch does", file=sys.stderr, flush=True)
        self.hinted = self.validated

    def check(self, trainer: L.Trainer, fit_folder: FitFolder) -> None:
        """Check, on every rank, that some epoch of some attempt has logged the metric.

        Raises:
            TrainerError: none has; what was logged is named.
        """
        unvalidated = trainer.enable_validation and not self.validated
        if self.name is None or (unvalidated and not self.needed):
            return
        lines = fit_folder.read_metrics() if trainer.is_global_zero else []
        logged = trainer.strategy.broadcast({name for line in lines for name in line["metrics"]}, src=0)
        if self.name not in logged:
            raise TrainerError(self._describe(logged))

    def _describe(self, logged: Iterable[str]) -> str:
        names = ", ".join(sorted(logged)) or "nothing"
        return f"{self.key}: {self.name!r} is not logged by the module; it logs {names}"
