"""Which failures of workers are worth another try, and how they are told."""

from __future__ import annotations

import time
from typing import Any

from ray.exceptions import RayError
from ray.train import TrainingFailedError
from ray.train.v2._internal.exceptions import RayTrainError, UserExceptionWithTraceback
from ray.train.v2._internal.execution.failure_handling.default import DefaultFailurePolicy
from ray.train.v2._internal.execution.failure_handling.failure_policy import FailureDecision

from trainer_app.errors import AccessDeniedError, StorageError, TrainerError
from trainer_app.records import FitFolder
from trainer_app.run.decision import is_permanent
from trainer_app.run.spec import RunSpec


class NotTwice(DefaultFailurePolicy):
    """Ray's policy, but an error of the code itself that comes again at the same commit ends the run.

    Lost workers count against max_failures as they do in Ray. A mistake of the person's (TrainerError) is never
    retried: it can't pass the next time.
    """

    def __init__(self, failure_config: Any, spec: RunSpec, trial: str | None, mailbox: Any = None) -> None:
        super().__init__(failure_config)
        self.mailbox = mailbox
        self.spec = spec
        self.trial = trial
        self.last: tuple[str, str] | None = None

    def make_decision(self, training_failed_error: TrainingFailedError) -> FailureDecision:
        """Ray's decision or an earlier end; a retry is told to the driver, where a mailbox leads to it."""
        decision = self._decide(training_failed_error)
        if decision is FailureDecision.RETRY and self.mailbox is not None:
            reason = one_line(root_cause(training_failed_error))
            self.mailbox.put.remote({"event": "retry", "trial": self.trial, "reason": reason})
        return decision

    def _decide(self, training_failed_error: TrainingFailedError) -> FailureDecision:
        decision = super().make_decision(training_failed_error)
        failures = getattr(training_failed_error, "worker_failures", None) or {}
        if decision is not FailureDecision.RETRY or not failures or any(map(lost, failures.values())):
            return decision  # lost workers, start-up, preemption: Ray's limits hold
        cause = root_cause(training_failed_error)
        if isinstance(cause, StorageError) and not isinstance(cause, AccessDeniedError):
            return decision  # a storage that did not answer may answer the next time
        here = (one_line(cause), place(self.spec.fit_folder(self.trial)))
        again, self.last = here == self.last, here
        return FailureDecision.RAISE if again or isinstance(cause, TrainerError) else decision


def lost(failure: BaseException) -> bool:
    """Whether a worker was lost, rather than its code having raised."""
    return isinstance(failure, RayError | RayTrainError) and not isinstance(failure, UserExceptionWithTraceback)


def final(error: BaseException) -> bool:
    """Whether a failure that ended a run would come again in another attempt of the same submission.

    Not where the cluster or the storage failed: lost workers and controllers, workers that could not be started, a
    storage that did not answer.
    """
    if isinstance(error, TrainerError):
        return is_permanent(error)
    if isinstance(error, TrainingFailedError):
        failures = getattr(error, "worker_failures", None) or {}
        if not failures or any(map(lost, failures.values())):
            return False
        cause = root_cause(error)
        return is_permanent(cause) if isinstance(cause, TrainerError) else True
    return not isinstance(error, RayError | RayTrainError | OSError)


def place(fit_folder: FitFolder) -> str:
    """Where a unit stands: its newest commit. An error that comes twice at one place is final."""
    try:
        return max(fit_folder.checkpoints.names(), default="start")
    except StorageError as e:
        return f"unknown: {e} at {time.monotonic()}"  # no two of them are the same


def root_cause(error: BaseException) -> BaseException:
    """The exception of the user's code inside Ray's wrapping."""
    failures = getattr(error, "worker_failures", None)
    if failures:
        gone = [rank for rank, failure in failures.items() if lost(failure)]  # the others' errors follow from theirs
        return root_cause(failures[min(gone or failures)])
    for name in ("controller_failure", "health_check_failure", "_base_exc", "cause"):
        inner = getattr(error, name, None)
        if isinstance(inner, BaseException) and inner is not error:
            return root_cause(inner)
    return error


def one_line(error: BaseException) -> str:
    """`Type: message` on one line; our own errors without their type."""
    text = " ".join(str(error).split())
    return text if isinstance(error, TrainerError) else f"{type(error).__name__}: {text}"[:1000]
