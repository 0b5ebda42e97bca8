"""Which errors are worth another try: one rule for a train run, a trial, a nested trial and the attempts of a run.

Imports neither Ray nor torch: Ray's failure policy (training/failures.py) and a trial's loop (tuning/trial.py) ask it.
"""

from __future__ import annotations

from dataclasses import dataclass

from trainer_app.errors import (
    AccessDeniedError,
    AlreadyExistsError,
    GuardError,
    NotFoundError,
    StorageError,
    StorageUnavailableError,
    TrainerError,
    UserError,
)
from trainer_app.records import FitFolder
from trainer_app.storage import try_once
from trainer_app.user_errors import describe_error

START = "the start"


@dataclass(frozen=True)
class RetryDecision:
    """Whether to try again; if not, `reason` says why."""

    retry: bool
    reason: str = ""


class RetryPolicy:
    """Decide after each error of one fit whether it is worth another try; `max_failures` -1 is any number of tries.

    A permanent error is not, nor is one that comes a second time at the same commit: with the same message, or from the
    same line at the same step. A storage that did not answer was waited for already (`storage.retrying`): it is not
    counted, and the next attempt of the run continues.
    """

    def __init__(self, max_failures: int) -> None:
        self.max_failures = max_failures
        self.failures = 0
        self.last: tuple[BaseException, str | None] | None = None

    def decide(self, error: BaseException, commit: str | None) -> RetryDecision:
        """Return whether to try again after `error`; `commit` is the fit's `last_commit`, which None makes unknown."""
        if isinstance(error, StorageUnavailableError):
            return RetryDecision(retry=False, reason="the storage did not answer")
        self.failures += 1
        if is_permanent(error):
            return RetryDecision(retry=False, reason="this error comes again")
        if not isinstance(error, StorageError):
            previous, self.last = self.last, (error, commit)
            if previous and commit is not None and previous[1] == commit and _is_same(previous[0], error):
                return RetryDecision(retry=False, reason=f"the same error came twice at {commit}")
        if self.failures > self.max_failures >= 0:
            return RetryDecision(retry=False, reason=f"failure {self.failures}; max_failures is {self.max_failures}")
        return RetryDecision(retry=True)


def _is_same(one: BaseException, other: BaseException) -> bool:
    if isinstance(one, UserError) and isinstance(other, UserError) and one.signature == other.signature is not None:
        return True
    return describe_error(one) == describe_error(other)


def is_permanent(error: BaseException) -> bool:
    """Return whether `error` comes again however often it is tried: ours do, unless a storage did not answer."""
    if isinstance(error, UserError):
        return error.comes_again
    if isinstance(error, StorageError):
        return isinstance(error, AccessDeniedError | NotFoundError | AlreadyExistsError)
    return isinstance(error, TrainerError) and not isinstance(error, GuardError)


def ends_run(error: BaseException) -> bool:
    """Return whether `error`, which ended the driver, would end the submission's next attempt too.

    Not if the cluster, the connection to it or the storage failed. Ray's errors are known by the names of their
    bases, since Ray may not be installed where this is imported.
    """
    if isinstance(error, TrainerError):
        return isinstance(error, UserError) or is_permanent(error)
    cluster = {base.__name__ for base in type(error).__mro__} & {"RayError", "RayTrainError"}
    return not cluster and not isinstance(error, OSError)


def last_commit(fit_folder: FitFolder) -> str | None:
    """Return the name of the newest commit, `START` if there is none, None if the storage does not answer."""
    try:
        return max(try_once(fit_folder.checkpoints).list_folders(), default=START)
    except StorageError:
        return None
