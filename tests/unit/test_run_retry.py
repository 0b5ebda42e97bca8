"""Which errors are tried again: the same for a train run, a trial and a nested trial."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray.train
from ray import tune
from ray.train.v2._internal.exceptions import UserExceptionWithTraceback
from ray.train.v2._internal.execution.failure_handling.failure_policy import FailureDecision
from ray.train.v2.api.exceptions import WorkerGroupError

from trainer_app.errors import (
    AccessDeniedError,
    AlreadyExistsError,
    InputError,
    LeaseLostError,
    NotFoundError,
    StorageError,
    StorageUnavailableError,
    TrainerError,
    UserError,
)
from trainer_app.run import retry
from trainer_app.run.retry import RetryPolicy, is_permanent
from trainer_app.run.spec import RunSpec
from trainer_app.training.failures import RunFailurePolicy
from trainer_app.tuning import process_state
from trainer_app.tuning import trial as trials
from trainer_app.user_errors import FitProgress

pytestmark = pytest.mark.unit

TRIAL = "t00003"
RUN_FILE = """
model: {class_path: m.M}
failure: {max_failures: 3}
tune: {metric: loss, mode: min, num_samples: 1, space: {model.init_args.lr: {choice: [1]}}}
"""
AGAIN, END = True, False
COMMIT = "a new commit"
BUG, OTHER = ValueError("shape mismatch"), ValueError("another")
SILENT, DENIED, GONE = StorageError("no answer"), AccessDeniedError("no"), NotFoundError("no such bucket")
AWAY = StorageUnavailableError("no answer; it was tried for 600 s")
BUILD = UserError("HTTPError: HTTP Error 404: Not Found (data.py:7)", "Traceback ...", comes_again=True)


def bad_row(number: int, step: int) -> UserError:
    """As a worker raises it at a line and a step, with a message of its own each time."""
    text = f"BadRow: row {number} (oops.py:10)"
    return UserError(text, "Traceback ...", signature=("BadRow", "oops.py:10", step))


# what happens, in order, with max_failures 3; the answer to each error
ANSWERS: dict[str, list[Any]] = {
    "an error of the code": [BUG, AGAIN],
    "the same error twice at one commit": [BUG, AGAIN, BUG, END],
    "the same error after progress": [BUG, AGAIN, COMMIT, BUG, AGAIN, BUG, END],
    "another error at one commit": [BUG, AGAIN, OTHER, AGAIN, BUG, AGAIN],
    "more errors than max_failures": [*[BUG, AGAIN, COMMIT] * 3, BUG, END],
    "an error in building the parts": [BUILD, END],
    "another message at the same line and step": [bad_row(7, 3), AGAIN, bad_row(8, 3), END],
    "another message at the same line, at another step": [bad_row(7, 3), AGAIN, bad_row(8, 4), AGAIN],
    "the user's mistake": [InputError("no CUDA device"), END],
    "a lease that another driver has": [LeaseLostError("gone"), END],
    "a storage that does not answer, at one commit": [SILENT, AGAIN, SILENT, AGAIN, SILENT, AGAIN],
    "a storage that does not answer at all": [*[SILENT, AGAIN] * 3, SILENT, END],
    "a storage that does not answer between two errors": [BUG, AGAIN, SILENT, AGAIN, BUG, END],
    "a storage that was waited for in vain": [AWAY, END],
    "a storage that was waited for in vain, after other errors": [BUG, AGAIN, OTHER, AGAIN, AWAY, END],
    "a storage that refuses the credentials": [DENIED, END],
    "a bucket that is not there": [GONE, END],
}


def answers_of_ray(spec: RunSpec, trial: str | None, steps: list[Any]) -> list[bool]:
    """As the controller of a train run asks, or that of a nested trial."""
    policy = RunFailurePolicy(ray.train.FailureConfig(max_failures=3), spec, trial)
    answers = []
    for step in steps:
        if step == COMMIT:
            make_commit(spec, trial)
            continue
        failure = WorkerGroupError("1 worker failed", {0: UserExceptionWithTraceback(step, "Traceback ...")})
        answers.append(policy.make_decision(failure) is FailureDecision.RETRY)
    return answers


def answers_of_trial(spec: RunSpec, steps: list[Any], monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """As the loop of a trial does: it fits again, or reports the error to Tune."""
    left, tries = list(steps), 0
    reports: list[dict[str, Any]] = []

    def fit(_: Any, __: Any, ___: Any, progress: FitProgress) -> bool:
        nonlocal tries
        tries += 1
        progress.resumed = True
        while left and left[0] == COMMIT:
            make_commit(spec, TRIAL)
            left.pop(0)
        if left:
            raise left.pop(0)
        return False

    monkeypatch.setattr(trials, "fit_here", fit)
    monkeypatch.setattr(process_state, "_open_files", set)  # threads of other tests have some
    monkeypatch.setattr(tune, "get_context", lambda: SimpleNamespace(get_trial_id=lambda: TRIAL))
    monkeypatch.setattr(tune, "report", reports.append)
    trials.run({}, spec)
    errors = sum(step != COMMIT for step in steps)
    assert tries == errors + (not reports)
    return [True] * (errors - len(reports)) + [False] * len(reports)


def make_commit(spec: RunSpec, trial: str | None) -> None:
    checkpoints = spec.fit_folder(trial).checkpoints
    epoch = len(checkpoints.list_folders()) + 1
    checkpoints.put(f"a0001-e{epoch:06d}-s{epoch:09d}/manifest.json", b"{}")


ASKERS: dict[str, Callable[..., list[bool]]] = {
    "train run": lambda spec, steps, _: answers_of_ray(spec, None, steps),
    "nested trial": lambda spec, steps, _: answers_of_ray(spec, TRIAL, steps),
    "trial": answers_of_trial,
}


@pytest.mark.parametrize("asker", ASKERS)
@pytest.mark.parametrize("case", ANSWERS)
def test_the_same_errors_get_the_same_answers(
    case: str, asker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = RunSpec(run="r", uri=str(tmp_path), config=RUN_FILE, use_gpu=False)
    steps = [step for step in ANSWERS[case] if not isinstance(step, bool)]
    assert ASKERS[asker](spec, steps, monkeypatch) == [step for step in ANSWERS[case] if isinstance(step, bool)]


@pytest.mark.parametrize("max_failures, tries", [(0, 0), (1, 1), (-1, 9)])
def test_max_failures_bounds_the_tries(max_failures: int, tries: int) -> None:
    policy = RetryPolicy(max_failures)
    assert [policy.decide(ValueError(str(i)), retry.START).retry for i in range(tries)] == [True] * tries
    if max_failures >= 0:
        assert not policy.decide(BUG, retry.START).retry


def test_a_refusal_says_why() -> None:
    policy = RetryPolicy(1)
    assert policy.decide(DENIED, retry.START).reason == "this error comes again"
    policy = RetryPolicy(-1)
    policy.decide(BUG, "a0001-e000001")
    assert policy.decide(BUG, "a0001-e000001").reason == "the same error came twice at a0001-e000001"
    assert RetryPolicy(0).decide(BUG, None).reason == "failure 1; max_failures is 0"


def test_an_unknown_commit_equals_no_other() -> None:
    policy = RetryPolicy(-1)
    assert [policy.decide(BUG, None).retry for _ in range(3)] == [True] * 3


@pytest.mark.parametrize(
    "error, permanent",
    [
        (DENIED, True),
        (GONE, True),
        (AlreadyExistsError("x"), True),
        (TrainerError("x"), True),
        (SILENT, False),
        (BUG, False),
        (ConnectionError("x"), False),
    ],
)
def test_our_own_errors_come_again_unless_a_storage_did_not_answer(error: Exception, permanent: bool) -> None:
    assert is_permanent(error) is permanent
