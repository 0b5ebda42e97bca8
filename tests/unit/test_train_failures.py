"""Which failures of workers Ray's policy retries, and how errors are described."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import ray.train
from ray.exceptions import ActorDiedError, RayActorError, RayTaskError
from ray.train import TrainingFailedError
from ray.train.v2._internal.exceptions import (
    UserExceptionWithTraceback,
    WorkerGroupStartupTimeoutError,
    WorkerHealthCheckFailedError,
    WorkerHealthCheckTimeoutError,
)
from ray.train.v2._internal.execution.failure_handling.failure_policy import FailureDecision
from ray.train.v2.api.exceptions import ControllerError, PreemptionError, WorkerGroupError
from ray.train.v2.api.preemption import PreemptionInfo

from trainer_app.errors import (
    AccessDeniedError,
    ConfigError,
    InputError,
    Problem,
    RanksApartError,
    StorageError,
    TrainerError,
    UserError,
)
from trainer_app.records import AttemptRecord
from trainer_app.run.retry import ends_run, last_commit
from trainer_app.run.spec import RunSpec
from trainer_app.training.failures import RunFailurePolicy, ends_training, root_cause
from trainer_app.user_errors import describe_error

pytestmark = pytest.mark.unit

AGAIN, END = FailureDecision.RETRY, FailureDecision.RAISE


def user(error: Exception) -> Exception:
    """As Ray hands on what the worker function raised."""
    return UserExceptionWithTraceback(error, f"Traceback ...\n{error!r}")


def of_workers(*failures: Exception) -> WorkerGroupError:
    return WorkerGroupError("n workers failed", dict(enumerate(failures)))


def lost(*, preempted: bool = False) -> Exception:
    """As Ray's poll tells of a worker whose process is gone."""
    died = RayActorError(error_msg="The actor died: SIGKILL", preempted=preempted)
    return WorkerHealthCheckFailedError("A worker health check failed.", failure=died)


BUG = of_workers(user(ValueError("shape mismatch")))
OTHER_BUG = of_workers(user(ValueError("another")))
MISTAKE = of_workers(user(InputError("use_gpu is true but node 1 has no CUDA device")))
LOST = of_workers(lost())
LOST_DIRECT = of_workers(ActorDiedError())
SILENT = of_workers(WorkerHealthCheckTimeoutError("no answer for 60 s"))
# one rank is lost, the others fail for its sake, the lowest of them first
COLLATERAL = of_workers(user(RuntimeError("Connection closed by peer")), lost())
APART = of_workers(lost(), user(RanksApartError("the ranks wait for each other")))  # gloo ended rank 0's process
PREEMPTED = PreemptionError(PreemptionInfo(None, {"n": [0]}))
NOT_STARTED = ControllerError(WorkerGroupStartupTimeoutError(2))
BROKEN = ControllerError(RuntimeError("bad callback"))

COMMIT = "a new commit"
# what happens, in order, with max_failures 5; a decision for each failure
DECISIONS: dict[str, list[Any]] = {
    "an error that does not come again": [BUG, AGAIN],
    "the same error twice at one commit": [BUG, AGAIN, BUG, END],
    "the same error after progress": [BUG, AGAIN, COMMIT, BUG, AGAIN],
    "the same error after progress, then again there": [BUG, AGAIN, COMMIT, BUG, AGAIN, BUG, END],
    "progress before the first error": [COMMIT, BUG, AGAIN, BUG, END],
    "another error at one commit": [BUG, AGAIN, OTHER_BUG, AGAIN, BUG, AGAIN, BUG, END],
    "the user's mistake": [MISTAKE, END],
    "a lost worker, again and again at one commit": [LOST, AGAIN, LOST, AGAIN, LOST, AGAIN],
    "a lost worker known by its actor's error": [LOST_DIRECT, AGAIN, LOST_DIRECT, AGAIN, LOST_DIRECT, AGAIN],
    "a worker that does not answer": [SILENT, AGAIN, SILENT, AGAIN, SILENT, AGAIN],
    "a lost worker that others fail for": [COLLATERAL, AGAIN, COLLATERAL, AGAIN, COLLATERAL, AGAIN],
    "ranks that do not do the same": [APART, END],
    "a lost worker between two errors": [BUG, AGAIN, LOST, AGAIN, BUG, END],
    "preempted more often than max_failures": [PREEMPTED, AGAIN] * 7,
    "workers that find no place yet": [NOT_STARTED, AGAIN] * 7,
    "an error of the controller": [BROKEN, END],
    "max_failures spent by lost workers": [*[LOST, AGAIN] * 5, LOST, END],
    "max_failures spent by errors with progress": [*[BUG, AGAIN, COMMIT] * 5, BUG, END],
}


def policy(folder: Path, *, max_failures: int = 5, trial: str | None = None) -> RunFailurePolicy:
    spec = RunSpec(run="r", uri=str(folder), config="", use_gpu=False)
    return RunFailurePolicy(ray.train.FailureConfig(max_failures=max_failures), spec, trial)


def progress(spec: RunSpec, trial: str | None = None) -> None:
    fit_folder = spec.fit_folder(trial)
    epoch = len(fit_folder.checkpoints.list_folders()) + 1
    fit_folder.checkpoints.put(f"a0001-e{epoch:06d}-s{epoch:09d}/manifest.json", b"{}")


@pytest.mark.parametrize("name", DECISIONS)
def test_decisions(tmp_path: Path, name: str) -> None:
    deciding = policy(tmp_path)
    steps = iter(DECISIONS[name])
    got, wanted = [], []
    for step in steps:
        if step == COMMIT:
            progress(deciding.spec)
        else:
            got.append(deciding.make_decision(step))
            wanted.append(next(steps))
    assert got == wanted


def test_the_cause_is_the_error_that_does_not_follow_from_another() -> None:
    closed = user(RuntimeError("Connection closed by peer"))
    assert "apart" in describe_error(root_cause(of_workers(closed, lost(), user(RanksApartError("apart")))))
    assert (
        describe_error(root_cause(of_workers(closed, user(ValueError("no such word"))))) == "ValueError: no such word"
    )


@pytest.mark.parametrize("failure, state, reason", [(LOST, "lost", "died"), (BUG, "failed", "ValueError")])
def test_a_start_that_is_tried_again_keeps_why_it_ended(tmp_path: Path, failure: Any, state: str, reason: str) -> None:
    deciding = policy(tmp_path, trial="t00003")
    fit_folder = deciding.spec.fit_folder("t00003")
    fit_folder.take_attempt(0)
    assert deciding.make_decision(failure) is AGAIN
    end = AttemptRecord.from_json(fit_folder.store.get("attempts/a0001.end.json"), "it")
    assert (end.number, end.state) == (1, state) and reason in end.reason


@pytest.mark.parametrize("max_failures, tries", [(0, 0), (1, 1), (-1, 9)])
def test_max_failures_as_in_ray(tmp_path: Path, max_failures: int, tries: int) -> None:
    deciding = policy(tmp_path, max_failures=max_failures)
    assert [deciding.make_decision(LOST) for _ in range(tries)] == [AGAIN] * tries
    if max_failures >= 0:
        assert deciding.make_decision(LOST) is END


def test_endless_tries_end_with_a_repeated_error(tmp_path: Path) -> None:
    deciding = policy(tmp_path, max_failures=-1)
    assert [deciding.make_decision(BUG) for _ in range(2)] == [AGAIN, END]


def test_a_nested_trial_looks_at_its_own_commits(tmp_path: Path) -> None:
    deciding = policy(tmp_path, trial="t00003")
    assert deciding.make_decision(BUG) is AGAIN
    progress(deciding.spec)  # of the run itself, or another trial: no progress of this one
    progress(deciding.spec, "t00004")
    assert deciding.make_decision(BUG) is END
    deciding = policy(tmp_path, trial="t00003")
    assert deciding.make_decision(BUG) is AGAIN
    progress(deciding.spec, "t00003")
    assert deciding.make_decision(BUG) is AGAIN


def test_the_last_commit_is_the_newest(tmp_path: Path) -> None:
    spec = RunSpec(run="r", uri=str(tmp_path), config="", use_gpu=False)
    assert last_commit(spec.fit_folder()) == "the start"
    progress(spec)
    progress(spec)
    assert last_commit(spec.fit_folder()) == "a0001-e000002-s000000002"


VALUE = ValueError("x")
ACTOR = RayActorError(error_msg="died")
ROOTS: dict[str, tuple[BaseException, BaseException]] = {
    "itself": (VALUE, VALUE),
    "of a worker": (of_workers(user(VALUE)), VALUE),
    "of the lowest rank": (WorkerGroupError("m", {3: KeyError("k"), 1: user(VALUE), 2: KeyError("k")}), VALUE),
    "bare": (of_workers(VALUE), VALUE),
    "of the controller": (ControllerError(VALUE), VALUE),
    "of a worker, in the controller": (ControllerError(of_workers(user(VALUE))), VALUE),
    "of a task": (RayTaskError("f", "traceback", VALUE), VALUE),
    "of a task in a worker": (of_workers(user(RayTaskError("f", "traceback", VALUE))), VALUE),
    "a lost worker": (of_workers(WorkerHealthCheckFailedError("w", failure=ACTOR)), ACTOR),
    "no worker": (PREEMPTED, PREEMPTED),
}


@pytest.mark.parametrize("name", ROOTS)
def test_the_root_cause_is_found(name: str) -> None:
    error, root = ROOTS[name]
    assert root_cause(error) is root


def test_an_error_that_names_itself_as_its_cause_ends() -> None:
    odd = RuntimeError("odd")
    odd.cause = odd  # type: ignore[attr-defined]
    assert root_cause(odd) is odd


@pytest.mark.parametrize(
    "error, line",
    [
        (ValueError("a\n  b\tc"), "ValueError: a b c"),
        (KeyError("lr"), "KeyError: 'lr'"),
        (RuntimeError(), "RuntimeError: no message"),
        (TrainerError("two\nlines"), "two lines"),
        (InputError("use_gpu"), "use_gpu"),
        (ConfigError([Problem("a", "bad"), Problem("b", "worse")]), "a: bad b: worse"),
    ],
)
def test_an_error_on_describe_error(error: BaseException, line: str) -> None:
    assert describe_error(error).strip() == line.strip()


def test_a_long_error_is_cut() -> None:
    assert len(describe_error(ValueError("x" * 5000))) == 1000


FINAL: dict[str, tuple[BaseException, bool]] = {
    "an error of the code": (BUG, True),
    "an error of the code, as text": (of_workers(user(UserError("BadRow: 7 (oops.py:10)", "Traceback ..."))), True),
    "the user's mistake, in a worker": (MISTAKE, True),
    "a storage that did not answer a worker": (of_workers(user(StorageError("no answer"))), False),
    "a storage that refuses a worker": (of_workers(user(AccessDeniedError("no"))), True),
    "lost workers": (LOST, False),
    "a lost worker that others fail for": (COLLATERAL, False),
    "workers that find no place": (NOT_STARTED, False),
    "preempted": (PREEMPTED, False),
    "the user's mistake, in the driver": (InputError("no"), True),
    "a storage that did not answer the driver": (StorageError("no answer"), False),
    "a cluster that is gone": (ActorDiedError(), False),
    "a connection that is gone": (ConnectionError("GCS"), False),
    "an error in the driver": (ValueError("x"), True),
}


@pytest.mark.parametrize("name", FINAL)
def test_what_another_attempt_of_the_submission_would_meet_again(name: str) -> None:
    error, expected = FINAL[name]
    ends = ends_training(error) if isinstance(error, TrainingFailedError) else ends_run(error)
    assert ends is expected
