"""Errors that a user reads: one line, what and where, what is allowed, what to do next."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final


class _Missing:
    """The type of MISSING, which stands for no value and stays one object through pickle."""

    def __reduce__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()


# Of a submitted run that failed and would fail again: its submitter has KubeRay start no further cluster.
FAILED_FOR_GOOD: Final = 3


class TrainerError(Exception):
    """A failure whose cause is known. `exit_code` is the command's."""

    exit_code = 1


class InputError(TrainerError):
    """A mistake in what the user gave: nothing was started."""

    exit_code = 2


class UserError(TrainerError):
    """An exception of the user's code, as text that every process can read. See `user_errors.plain_errors`.

    Args:
        text: its class, message and line.
        traceback: as Python prints it.
        comes_again: whether the next try would raise it too.
        signature: class, line and step; two errors that share it are one.
    """

    def __init__(
        self, text: str, traceback: str, *, comes_again: bool = False, signature: tuple[str, str, int] | None = None
    ) -> None:
        super().__init__(text)
        self.traceback, self.comes_again, self.signature = traceback, comes_again, signature

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how to pickle it: its attributes are set after it is made."""
        return type(self), (str(self), self.traceback), self.__dict__


class RunInterruptedError(TrainerError):
    """Ctrl-C, or a stop that the user requested."""

    exit_code = 130


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a run file."""

    key: str  # dotted, as on the command line
    message: str
    value: Any = MISSING  # in the run file
    allowed: str = ""  # what would be accepted, or what to do
    file: str = ""  # of the key; "command line" for an override
    line: int | None = None  # 1-based

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}: " if self.file and self.line else f"{self.file}: " if self.file else ""
        found = "" if self.value is MISSING else f" (found {self.value!r})"
        allowed = f"; {self.allowed}" if self.allowed else ""
        return " ".join(f"{where}{self.key}: {self.message}{found}{allowed}".split())


class ConfigError(InputError):
    """A run file that can't be used, with all of its problems."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(str(p) for p in self.problems))

    def __reduce__(self) -> tuple[type[ConfigError], tuple[list[Problem]]]:
        """Return how to pickle it: a worker's error reaches the driver that way."""
        return type(self), (self.problems,)


class StorageError(TrainerError):
    """A request that the storage did not fulfil."""


class NotFoundError(StorageError):
    """An object, bucket or folder that does not exist."""

    exit_code = 2


class BucketMissingError(NotFoundError):
    """A bucket that does not exist, or that a server which has just started does not know yet."""


class AlreadyExistsError(StorageError):
    """An object or run that exists and would be overwritten."""

    exit_code = 2


class ObjectChangedError(StorageError):
    """An object that another writer has changed, made or deleted since it was read: nothing was written."""


class AccessDeniedError(StorageError):
    """Credentials that the storage refused, or that lack a permission."""


class StorageUnavailableError(StorageError):
    """A storage that does not answer and may answer later: it is no failure of a run or a trial, and not counted."""


class LeaseHeldError(TrainerError):
    """A run whose lease another driver holds."""

    exit_code = 2


class LeaseLostError(TrainerError):
    """A lease that another driver has taken: this one, and its workers, may write nothing any more."""


class RunEndedError(KeyboardInterrupt):
    """A request to end the driver's work, handled as Ctrl-C is; `Watch.error` has the reason."""


class GuardError(TrainerError):
    """A guard of the run, such as its lease, that could not do its work for too long: the next attempt may."""


class DeadlineError(TrainerError):
    """A deadline over all attempts that has passed: the run is not retried."""


class CheckpointRejectedError(TrainerError):
    """A commit that does not verify; the message has the object and the reason."""


class RanksApartError(TrainerError):
    """Ranks of a fit that do not do the same: each would wait for the others for ever."""


class UserCodeError(TrainerError):
    """An archive of the user's code that is not the one submitted."""


class RunFailedError(TrainerError):
    """A run that was started or waited for from Python failed."""


class SubmissionRefusedError(TrainerError):
    """A job that Ray will never accept."""
