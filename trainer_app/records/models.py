"""The records of runs, trials and epochs, as pydantic models."""

from __future__ import annotations

import math
import time as clock
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from trainer_app.errors import StorageError
from trainer_app.records.plain_json import encode_floats, from_json, to_json, to_plain

MAX_TRACEBACK = 20_000  # characters
MAX_REASON = 1_000  # characters of why an attempt ended
TIME_BUDGET = "time budget"  # the reason of a trial that the time budget ended
STOP_REQUESTED = "stop was asked for"  # the reason of a trial that a stop request ended

STORAGE_SILENT = "the storage did not answer"  # the reason of a trial that ended by it

RunState = Literal["running", "succeeded", "failed", "interrupted"]
TrialState = Literal["pending", "running", "finished", "stopped", "failed"]


def _metrics(value: Any) -> Any:
    metrics = to_plain(value, "metrics")
    if not isinstance(metrics, dict | None):
        raise ValueError("a mapping of numbers is expected")
    return {name: math.nan if number is None else number for name, number in metrics.items()} if metrics else {}


# Numbers that damage can make of others, and no reader can show or add to: years beyond 5000, negative counts.
Seconds = Annotated[float, Field(ge=0, le=1e11)]
Count = Annotated[int, Field(ge=0, le=10**15)]

# A metric of None is NaN: jsonargparse and some loggers write it so.
Metrics = Annotated[dict[str, float], BeforeValidator(_metrics)]
Values = Annotated[dict[str, Any], BeforeValidator(lambda value: to_plain(value, "value"))]


class _Record(BaseModel):
    # fields of a newer version, which this one does not know, are dropped
    model_config = ConfigDict(extra="ignore", validate_assignment=True)
    untyped: ClassVar[frozenset[str]] = frozenset()  # fields where a string "nan" is a string

    def to_json(self) -> bytes:
        """Return the record as one line of JSON."""
        fields = self.model_dump().items()
        return to_json({name: encode_floats(value, tagged=name in self.untyped) for name, value in fields})

    @classmethod
    def from_json(cls, data: bytes, where: str) -> Self:
        """Parse a record; `where` names it in messages.

        Raises:
            StorageError: it is damaged or of a newer version.
        """
        try:
            return cls.model_validate(from_json(data))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            key = ".".join(str(part) for part in first["loc"]) or "it"
            raise StorageError(f"{where} is damaged or of a newer version: {key}: {first['msg']}") from error
        except (ValueError, RecursionError) as error:  # JSON's and Unicode's errors are ValueErrors
            why = "it is empty" if not data else " ".join(str(error).split())[:200]
            raise StorageError(f"{where} is damaged: {why}") from error


class AttemptRecord(_Record):
    """One start of a run's driver, or of a fit, and how it ended. Times are unix seconds.

    `queued`: since when it waited for its cluster; None if nothing submitted it, or if an earlier one had that cluster.
    `ended`: None while it runs; of the state `lost` its last sign of life. The other states are those of a run.
    """

    number: Count = 0
    queued: Seconds | None = None
    started: Seconds | None = None
    ended: Seconds | None = None
    state: str = ""
    reason: Annotated[str, AfterValidator(lambda text: text[:MAX_REASON])] = ""


class RunRecord(_Record):
    """`run.json`. Times are unix seconds.

    `done` and `best` are what `trainer list` shows without reading more: epochs done (train) or trials ended (tune),
    and the best value of `metric` so far; if they are None, the reader looks at the metrics.
    `submission` is the one whose driver wrote this, None for a driver started by hand. `final`: the error is permanent,
    so a retry of the same submission repeats it, with `exit_code`. `attempt` 0: it failed before it was created.
    `queued`, `started` and `reason` are those of this attempt, `past` are the ones before it.
    """

    untyped = frozenset({"versions", "resolved"})

    name: str
    task: Literal["train", "tune"]
    state: RunState = "running"
    created: Seconds = Field(default_factory=clock.time)
    updated: Seconds = Field(default_factory=clock.time)
    attempt: Count = 1
    queued: Seconds | None = None
    started: Seconds | None = None
    reason: str = ""
    past: list[AttemptRecord] = []
    seed: int | None = None
    metric: str | None = None
    mode: Literal["min", "max"] | None = None
    error: str | None = None
    traceback: str | None = None
    use_gpu: bool = False
    versions: dict[str, str] = {}
    resolved: Values = {}
    epochs: int | None = None
    num_samples: int | None = None
    folders: list[str] = []
    tags: list[str] = []
    done: Count | None = None
    best: float | None = None
    submission: str | None = None
    final: bool = False
    exit_code: int | None = None

    @property
    def target(self) -> tuple[int | None, str]:
        """How many trials or epochs the run does, None if there is no such end, and which of the two they are."""
        return (self.num_samples, "trials") if self.task == "tune" else (self.epochs, "epochs")

    @property
    def attempts(self) -> list[AttemptRecord]:
        """The attempts that are recorded, this one last; older versions recorded no other."""
        started = self.started or (self.created if self.attempt == 1 else None)
        ended = None if self.state == "running" else self.updated
        own = AttemptRecord(
            number=self.attempt,
            queued=self.queued,
            started=started,
            ended=ended,
            state=self.state,
            reason=self.error or self.reason,
        )
        return [*self.past, own]

    @property
    def past_ends(self) -> list[tuple[str, str]]:
        """(label, text) of each earlier attempt whose end is recorded, for a reader."""
        return [(f"attempt {one.number}", f"{one.state}: {one.reason}") for one in self.past if one.reason]


class TrialRecord(_Record):
    """`trial.json`: one sample of a sweep. `epochs` is how many are done, `metrics` those of the last one.

    `traceback` of a failed trial: at most the last MAX_TRACEBACK characters of it. `seen`: (epochs, value) of what a
    scheduler, known by its settings, learned from it: a resume reads this instead of the metrics.
    """

    untyped = frozenset({"params"})

    trial: str
    index: Count
    params: Values = {}
    state: TrialState = "pending"
    reason: str = ""
    epochs: Count = 0
    metrics: Metrics = {}
    best: float | None = None
    best_epoch: Count | None = None
    started: Seconds | None = None
    ended: Seconds | None = None
    error: str | None = None
    traceback: str | None = None
    attempts: Count = 0
    seen: dict[str, list[tuple[Count, float]]] = {}

    @property
    def is_over(self) -> bool:
        """Whether the next attempt leaves it as it is: not if a time budget, a stop or the storage ended it."""
        resumed = self.reason in (TIME_BUDGET, STOP_REQUESTED, STORAGE_SILENT)
        return self.state in ("finished", "stopped", "failed") and not resumed

    @property
    def teaches(self) -> bool:
        """Whether a sampler learns from it: it is over, without an error."""
        return self.is_over and self.state != "failed"


class EpochLine(_Record):
    """One line of `metrics/*.jsonl`: an epoch, counted from 0; `step` optimizer steps so far; `elapsed` seconds.

    `committed`: the seconds that the commit between the line before, of the same attempt, and this epoch took.
    """

    epoch: Count
    step: Count = 0
    time: Seconds = Field(default_factory=clock.time)
    elapsed: Seconds = 0.0
    committed: Seconds = 0.0
    metrics: Metrics = {}


def parse_run_record(data: bytes, name: str, where: str) -> RunRecord:
    """Return what the run.json of run `name` says; `where` names it in messages.

    Raises:
        StorageError: it is damaged, or of another run.
    """
    record = RunRecord.from_json(data, where)
    if record.name != name:
        raise StorageError(f"{where} is of another run, {record.name}")
    return record


def parse_trial_record(data: bytes, trial: str, where: str) -> TrialRecord:
    """Return what the trial.json of a trial says; `where` names it in messages.

    Raises:
        StorageError: it is damaged, or of another trial.
    """
    record = TrialRecord.from_json(data, where)
    number = trial.removeprefix("t")
    if record.trial != trial or (number.isdecimal() and int(number) != record.index):
        raise StorageError(f"{where} is damaged or of another trial, {record.trial}")
    return record
