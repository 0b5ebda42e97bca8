"""Errors that a person reads: one line, what and where, what is allowed, what to do next."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final


class _Missing:
    """No value. One object in every process that it is pickled to."""

    def __reduce__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()


class TrainerError(Exception):
    """A failure with a cause that we know. `exit_code` is what the command ends with."""

    exit_code = 1


class InputError(TrainerError):
    """The person's mistake: nothing was started."""

    exit_code = 2


class RunInterruptedError(TrainerError):
    """Ctrl-C or a stop that was asked for."""

    exit_code = 130


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a run file.

    Args:
        key: dotted key, as it is written on the command line.
        message: what is wrong.
        value: the value found, if any.
        allowed: what would be accepted, or what to do.
        file, line: where it stands, 1-based; `file` is "command line" for an override.
    """

    key: str
    message: str
    value: Any = MISSING
    allowed: str = ""
    file: str = ""
    line: int | None = None

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}: " if self.file and self.line else f"{self.file}: " if self.file else ""
        found = "" if self.value is MISSING else f" (found {self.value!r})"
        allowed = f"; {self.allowed}" if self.allowed else ""
        return " ".join(f"{where}{self.key}: {self.message}{found}{allowed}".split())


class ConfigError(InputError):
    """A run file that can't be used. All of its problems at once."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(str(p) for p in self.problems))

    def __reduce__(self) -> tuple[type[ConfigError], tuple[list[Problem]]]:
        """A worker's error reaches the driver through pickle."""
        return type(self), (self.problems,)


class StorageError(TrainerError):
    """The storage did not do what was asked."""


class NotFoundError(StorageError):
    """No such object, bucket or folder."""

    exit_code = 2


class AlreadyExistsError(StorageError):
    """Something is there that would be overwritten."""

    exit_code = 2


class AccessDeniedError(StorageError):
    """The storage refused the credentials, or their rights."""


class LeaseHeldError(TrainerError):
    """Another driver is at work on the run."""

    exit_code = 2


class LeaseLostError(TrainerError):
    """Another driver has the run's lease: nothing may be written any more by this one, or for it."""


class RunEndedError(KeyboardInterrupt):
    """The driver's work has to end; `Watch.error` has the reason. Cleaned up after as Ctrl-C is."""


class DeadlineError(TrainerError):
    """A deadline over all attempts has passed: the run has failed for good."""


class CheckpointRejectedError(TrainerError):
    """A commit that does not verify; the message names the object and the reason."""


class UserCodeError(TrainerError):
    """The archive is not the one that was submitted."""


class SubmissionRefusedError(TrainerError):
    """Ray will never take this job."""
