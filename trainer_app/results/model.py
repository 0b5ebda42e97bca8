"""A run as it is read from storage. `epoch` is an index from 0, `epochs` the number of finished ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from trainer_app.metric_order import best_of
from trainer_app.records import RunRecord, TrialRecord
from trainer_app.results.attempts import FitAttempt

SILENT_S = 600.0  # a running run that wrote nothing for this long is shown with its age; an epoch may take as long


ARTIFACTS = "artifacts"  # the folder, in a run's, of what its project wrote


@dataclass(frozen=True)
class Artifact:
    """A file that the run's project wrote: its path below `artifacts/`, which begins with the trial, and its bytes."""

    name: str
    size: int


@dataclass(frozen=True)
class Checkpoint:
    """A commit whose manifest and objects are in storage. `size` in bytes, `time` in unix seconds.

    `seconds`: how long it took from `time` on, 0 if that is unknown.
    """

    trial: str | None
    name: str
    uri: str
    epochs: int
    step: int
    size: int
    time: float
    metrics: dict[str, float]
    seconds: float = 0.0


@dataclass(frozen=True)
class Best:
    """The best epoch of a run or a trial, by the run's metric and mode."""

    trial: str | None
    epoch: int
    value: float
    params: dict[str, Any]
    metrics: dict[str, float]


def best_checkpoint(checkpoints: Sequence[Checkpoint], metric: str | None, mode: str | None) -> Checkpoint | None:
    """Return the one with the best value of the metric, or the newest if none has a value.

    Args:
        checkpoints: committed ones.
        metric: the run's; None if it has none.
        mode: min or max; None is max.
    """
    best: Checkpoint | None = best_of(((one.metrics.get(metric or ""), one) for one in checkpoints), mode)
    return best or max(checkpoints, key=lambda one: (one.step, one.time), default=None)


@dataclass(frozen=True)
class FitResults:
    """A train run (`trial` and `record` are None), or one trial. `history` has the lines of `EpochLine`, by epoch.

    `attempts` are its starts, of which each epoch's line in `history` is the latest.
    """

    trial: str | None
    record: TrialRecord | None
    history: list[dict[str, Any]]
    checkpoints: list[Checkpoint]
    best: Best | None
    attempts: list[FitAttempt] = field(default_factory=list)

    @property
    def epochs(self) -> int:
        """Return how many are finished."""
        known = self.record.epochs if self.record else 0
        return max(known, self.history[-1]["epoch"] + 1 if self.history else 0)

    @property
    def params(self) -> dict[str, Any]:
        """The trial's parameters by dotted key; empty for a train run."""
        return self.record.params if self.record else {}

    @property
    def ended(self) -> bool:
        """Whether it is a trial that finished, was stopped or failed."""
        return self.record is not None and self.record.state in ("finished", "stopped", "failed")

    def last_sign(self) -> float:
        """Return when it last wrote anything, in unix seconds."""
        times = [line["time"] for line in self.history[-1:]]
        times += [time for time in (self.record.started, self.record.ended) if time] if self.record else []
        return max(times, default=0.0)


@dataclass(frozen=True)
class RunResults:
    """A run as it is in storage now.

    `best` is the best of all epochs; `checkpoint` the committed one with the best value of the metric, or the newest if
    the run has no metric. They differ if the best epoch's checkpoint was not kept. `problems`: what could not be read.
    """

    uri: str
    record: RunRecord
    fits: list[FitResults]
    best: Best | None
    checkpoint: Checkpoint | None
    problems: list[str] = field(default_factory=list)
    artifacts: list[Artifact] = field(default_factory=list)

    @property
    def trials(self) -> list[FitResults]:
        """The sweep's trials; none for a train run."""
        return [fit for fit in self.fits if fit.trial is not None]

    def artifacts_of(self, trial: str | None) -> list[Artifact]:
        """Return the artifacts of a trial, or all if it is None."""
        return [one for one in self.artifacts if trial is None or one.name.startswith(f"{trial}/")]

    @property
    def done(self) -> int:
        """Return the number of finished epochs (train) or ended trials (tune)."""
        if self.record.task == "tune":
            return sum(fit.ended for fit in self.trials)
        return max((fit.epochs for fit in self.fits), default=0)

    def state_of(self, fit: FitResults) -> str:
        """Return a trial's state: `interrupted` if it was running when the run ended, whatever its record says."""
        state = fit.record.state if fit.record else "running"
        return "interrupted" if state == "running" and self.record.state != "running" else state

    @property
    def summary(self) -> dict[str, Any] | None:
        """Return the best as the event `end` has it; `checkpoint` is the best committed one, `epoch` an index."""
        if self.best is None:
            return None
        return {
            "trial": self.best.trial,
            "metric": self.record.metric,
            "value": self.best.value,
            "epoch": self.best.epoch,
            "params": self.best.params,
            "checkpoint": self.checkpoint.uri if self.checkpoint else None,
        }

    def last_sign(self) -> float:
        """Return when the run last wrote anything, in unix seconds."""
        return max([self.record.updated, *(fit.last_sign() for fit in self.fits)])

    def silent_for(self, now: float) -> float | None:
        """Return for how many seconds a running run has written nothing, if longer than SILENT_S."""
        return silence(self.record, self.last_sign(), now)


def silence(record: RunRecord | None, last_sign: float, now: float) -> float | None:
    """Return the seconds since a running run wrote anything, None if it is not running or they are at most SILENT_S.

    Args:
        record: None if it is damaged.
        last_sign: when the run last wrote anything, in unix seconds.
        now: in unix seconds.
    """
    age = now - last_sign
    return age if record is not None and record.state == "running" and age > SILENT_S else None
