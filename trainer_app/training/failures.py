"""Ray's failures of workers: which are tried again, and what caused them."""

from __future__ import annotations

import logging
from typing import Any

from ray.exceptions import RayError
from ray.train import TrainingFailedError

from trainer_app import ray_compat
from trainer_app.errors import RanksApartError, StorageUnavailableError, TrainerError, UserError
from trainer_app.run.retry import RetryPolicy, ends_run, last_commit
from trainer_app.run.spec import RunSpec
from trainer_app.user_errors import describe_error, is_collective_error

logger = logging.getLogger(__name__)


class RunFailurePolicy(ray_compat.DefaultFailurePolicy):
    """Ray's failure policy, which asks `RetryPolicy` about errors that the workers' own code raised.

    Lost workers, start-up and preemption are counted by Ray alone, against `max_failures` and its other limits.

    Args:
        trial: the nested trial that the workers train, or None.
        mailbox: an actor that takes the event of a retry to the driver, or None.
    """

    def __init__(self, failure_config: Any, spec: RunSpec, trial: str | None, mailbox: Any = None) -> None:
        super().__init__(failure_config)
        self.spec, self.trial, self.mailbox = spec, trial, mailbox
        self.retries = RetryPolicy(failure_config.max_failures)

    def make_decision(self, training_failed_error: TrainingFailedError) -> Any:
        """Return Ray's decision, or RAISE earlier than Ray; record why a start ended that is retried, and emit it."""
        decision = self._decide(training_failed_error)
        if decision is not ray_compat.FailureDecision.RETRY:
            return decision
        reason = describe_error(root_cause(training_failed_error))
        state = "failed" if raised_by_workers(training_failed_error) else "lost"
        self.spec.fit_folder(self.trial).record_end(state, reason)
        if self.mailbox is not None:
            self.mailbox.put.remote({"event": "retry", "trial": self.trial, "reason": reason})
        return decision

    def _decide(self, training_failed_error: TrainingFailedError) -> Any:
        if isinstance(root_cause(training_failed_error), StorageUnavailableError):
            return ray_compat.FailureDecision.RAISE  # the workers have waited for it
        decision = super().make_decision(training_failed_error)
        if decision is not ray_compat.FailureDecision.RETRY or not raised_by_workers(training_failed_error):
            return decision
        commit = last_commit(self.spec.fit_folder(self.trial))
        ours = self.retries.decide(root_cause(training_failed_error), commit)
        if not ours.retry:
            logger.info("not tried again: %s", ours.reason)
        return decision if ours.retry else ray_compat.FailureDecision.RAISE


def raised_by_workers(error: TrainingFailedError) -> bool:
    """Return whether the workers' code raised, rather than a worker or the controller being lost or not started."""
    failures = getattr(error, "worker_failures", None) or {}
    apart = any(isinstance(root_cause(failure), RanksApartError) for failure in failures.values())
    return bool(failures) and (apart or not any(map(is_lost, failures.values())))


def is_lost(failure: BaseException) -> bool:
    """Return whether a worker was lost, rather than its code having raised."""
    by_code = isinstance(failure, ray_compat.UserExceptionWithTraceback)
    return isinstance(failure, RayError | ray_compat.RayTrainError) and not by_code


def ends_training(error: TrainingFailedError) -> bool:
    """Return whether a failure of the workers that ended a run would end the submission's next attempt too."""
    if not raised_by_workers(error):
        return False
    cause = root_cause(error)
    return ends_run(cause) if isinstance(cause, TrainerError) else True


def root_cause(error: BaseException) -> BaseException:
    """Return the exception of the user's code inside Ray's wrapping."""
    failures = getattr(error, "worker_failures", None)
    if failures:
        return root_cause(failures[min(failures, key=lambda rank: (_follows(failures[rank]), rank))])
    for name in ("controller_failure", "health_check_failure", "_base_exc", "cause"):
        inner = getattr(error, name, None)
        if isinstance(inner, BaseException) and inner is not error:
            return root_cause(inner)
    return error


def _follows(failure: BaseException) -> int:
    """Return by how much an error may follow from another rank's, 0 if it names the cause."""
    cause = root_cause(failure)
    if isinstance(cause, RanksApartError | StorageUnavailableError):
        return 0
    return 1 if is_lost(failure) else 3 if is_collective_error(cause) else 2


def failure_record(error: TrainingFailedError) -> dict[str, str]:
    """Return what a record says of a failure of the workers: its line, and the traceback of the user's code."""
    cause = root_cause(error)
    return {
        "error": describe_error(cause),
        "traceback": cause.traceback if isinstance(cause, UserError) else str(error),
    }
