"""One attempt of a run, train or tune: opened, watched, and recorded however it ends."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from trainer_app import results
from trainer_app.checkpoint import newest_commit
from trainer_app.config import RunConfig, dump
from trainer_app.errors import LeaseLostError, StorageError, TrainerError
from trainer_app.records import FitFolder, RunFolder, TrialRecord
from trainer_app.run import cluster, cut_short, ends, identity, lease, prepare, stop
from trainer_app.run.deadlines import Deadlines
from trainer_app.run.page import written_page
from trainer_app.run.progress import RecordedProgress
from trainer_app.run.retry import ends_run
from trainer_app.run.spec import RunSpec
from trainer_app.run.watch import Emit, Event, Watch
from trainer_app.storage import Store, open_retrying
from trainer_app.storage.parallel import map_parallel
from trainer_app.user_errors import describe_error, format_traceback

EXIT_CODES: Final = {"succeeded": 0, "failed": 1, "interrupted": 130}
NO_ERROR: Final[dict[str, Any]] = {"error": None, "traceback": None, "final": False, "exit_code": None}
START: Final[dict[str, Any]] = {"epochs": 0, "step": 0, "commit": None}

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True)
class Work:
    """What a train run and a sweep do differently in an attempt."""

    task: str  # train or tune
    check: Callable[[RunConfig], Any]  # raises InputError if the cluster can never give what the run file asks for
    missing: Callable[[RunConfig], str]  # which resources Ray does not have now, in words; "" if none
    run: Callable[[RunConfig, RunFolder, RunSpec, Watch], None]  # records the state that it ended in
    test: Callable[..., Event]  # (storage, run, allow): scores the best checkpoint; returns the event `test`


def run_attempt(
    config: RunConfig, work: Work, *, name: str, resume: bool, emit: Emit, log: str | None, test: bool
) -> int:
    """Open the run, do the work under its lease, and record how it ended.

    Args:
        resume: whether it is the next attempt of a run that exists.
        emit: takes each event of the run.
        log: the path of the driver's log, for the first event; None if it goes to stderr.
        test: score the best checkpoint of a run that succeeded.

    Returns:
        the exit code of the state that the run ended in.

    Raises:
        TrainerError: before anything was started; or the run succeeded and its test did not.
    """
    submitted = identity.current_submission() is not None
    storage = open_retrying(config.storage.uri, config.failure.storage_timeout_s, submitted=submitted)
    with cluster.connected():
        folder, config = open_run(storage, config, name=name, resume=resume, task=work.task, check=work.check)
        event = results.start_event(folder, config, log=log, resumed=resume)
        emit({**event, "num_samples": folder.record.num_samples} if work.task == "tune" else event)
        test_error = None
        page = written_page(storage, folder, wanted=config.storage.report)
        with page, recording(folder, storage, emit, lambda: work.missing(config)) as watch:
            work.run(config, folder, prepare.run_spec(folder, storage, config), watch)
            if test and folder.record.state == "succeeded":
                test_error = run_test(work, storage, name, config.checkpoint.allow, watch.emit)
        if test_error:
            raise test_error
        return EXIT_CODES[folder.record.state]


def open_run(
    storage: Store, config: RunConfig, *, name: str, resume: bool, task: str, check: Callable[[RunConfig], Any]
) -> tuple[RunFolder, RunConfig]:
    """Create a run, or open an existing one for its next attempt, after `check`; nothing is written before it.

    Args:
        check: raises if the cluster can never give what the run file asks for.

    Returns:
        its folder, and its run file with what was chosen for it.

    Raises:
        AlreadyExistsError: the name of a new run is taken. NotFoundError: there is no run to resume.
        InputError: of `check`, or the run file describes another run. LeaseHeldError: another driver works on it.
    """
    submission = identity.current_submission()
    if not resume:
        prepare.check_name_free(storage, name, task=task)
        config, chosen = prepare.resolve_choices(config)
        check(config)
        with _new_lease(storage.child(name), submission):
            return prepare.create_run(storage, config, chosen, name=name, task=task), config
    folder, config = prepare.reopen_run(storage, config, name=name, task=task)
    check(config)
    held = lease.acquire(folder.run_store, submission)
    folder.run_store = lease.fence(folder.run_store)
    if submission is None:
        stop.withdraw_request(folder.run_store)  # a user resumes it; the launcher does this itself
    folder.update(
        state="running",
        submission=submission or folder.record.submission,
        use_gpu=bool(config.scaling.use_gpu),
        **ends.next_attempt(folder, held),
        **NO_ERROR,
        tags=config.tags,
        epochs=prepare.target_epochs(config),
        num_samples=config.tune.num_trials if config.tune and task == "tune" else None,
    )
    folder.write_config(dump(config))  # the next attempt starts from what this one changed
    return folder, config


@contextmanager
def _new_lease(run_store: Store, submission: str | None) -> Iterator[None]:
    """Acquire the lease of a run that is created under it; release it if that fails."""
    lease.acquire(run_store, submission)
    try:
        cut_short.make_free(lease.fence(run_store))
        yield
    except StorageError:
        lease.release(run_store)
        raise


@contextmanager
def recording(
    folder: RunFolder, storage: Store, emit: Emit, missing: Callable[[], str] = lambda: ""
) -> Iterator[Watch]:
    """Record how the attempt ended, whatever ends it, and emit the last event.

    Meanwhile this driver has the run's lease, and deadlines and requests to stop are watched.

    Args:
        missing: which resources the run waits for, in words; "" if none.

    Raises:
        DeadlineError, LeaseLostError: in place of what was raised, if the watch has ended the attempt.
    """
    started, progress = time.monotonic(), RecordedProgress(folder, emit)
    watch = start_watch(folder, progress.emit, missing)
    try:
        with watch, progress:
            yield watch
    except (KeyboardInterrupt, SystemExit):
        if watch.error is None:
            with _closing("the run's end was not recorded"):
                folder.update(state="interrupted")
            raise
        record_failure(folder, watch.error)
        raise watch.error from None
    except Exception as e:
        watch.check_lease()
        record_failure(folder, watch.error or e)
        if watch.error is not None:
            raise watch.error from e
        raise
    finally:
        watch.check_lease()
        if not isinstance(watch.error, LeaseLostError):
            with _closing("the run's results were not summed up"):
                run = results.read_outcome(storage, folder.name)
                reason = ends.explain_end(folder, run)
                folder.update(done=run.done, best=run.best.value if run.best else None, reason=reason)
                emit(results.end_event(folder, run, time.monotonic() - started))
        watch.close()


@contextmanager
def _closing(consequence: str) -> Iterator[None]:
    """Log an error of the storage, or of a lost lease: raised here it would hide why the run ended."""
    try:
        yield
    except (StorageError, LeaseLostError) as error:
        _log.warning("%s: %s", consequence, error)


def start_watch(folder: RunFolder, emit: Emit, missing: Callable[[], str]) -> Watch:
    """Return a watch over the run's lease, which is acquired if this process does not have it yet.

    Args:
        missing: which resources the run waits for, in words; "" if none.

    Raises:
        LeaseHeldError: another driver has the lease.
    """
    deadlines = Deadlines.from_env()
    begun = deadlines.first_step is None or any("metrics/" in entry.key for entry in folder.run_store.list())
    held = lease.acquire(folder.run_store, identity.current_submission())
    folder.run_store = lease.fence(folder.run_store)
    return Watch(folder.run_store, held, emit, deadlines=deadlines, begun=begun, missing=missing)


def record_failure(folder: RunFolder, error: Exception) -> None:
    """Record the error, unless another driver has the run."""
    if isinstance(error, LeaseLostError):
        return
    text = format_traceback(error)
    code = error.exit_code if isinstance(error, TrainerError) else 1
    record = {"error": describe_error(error), "traceback": text, "final": ends_run(error), "exit_code": code}
    with _closing("the run's failure was not recorded"):
        folder.update(state="failed", **record)


def run_test(work: Work, storage: Store, name: str, allow: Sequence[str], emit: Emit) -> TrainerError | None:
    """Score the best checkpoint of run `name` on the test split, and emit the event `test`.

    Args:
        storage: holds the run.
        allow: classes that the checkpoint may hold.

    Returns:
        None, or why the test failed: not raised, since the run itself has succeeded.
    """
    try:
        emit(work.test(storage, name, allow=allow))
    except Exception as e:  # noqa: BLE001 - whatever the user's test raises: training has succeeded
        return TrainerError(f"the run succeeded, its test did not: {describe_error(e)}")
    return None


def commit_position(fit_folder: FitFolder) -> dict[str, Any]:
    """Return where a fit resumes: its finished epochs, its steps, and the name of its newest commit."""
    commit = newest_commit(fit_folder.checkpoints)
    if commit is None:
        return START
    return {"epochs": commit.manifest.epochs, "step": commit.manifest.step, "commit": commit.name}


def stop_position(folder: RunFolder, trials: Iterable[TrialRecord] = ()) -> dict[str, Any]:
    """Return where a run that was stopped resumes; of a sweep, the unfinished trial that is furthest, and `trials`."""
    if folder.record.task == "train":
        return commit_position(folder.fit_folder())
    left = [record.trial for record in trials if not record.is_over]
    found = map_parallel(lambda trial: commit_position(folder.fit_folder(trial)), left)
    positions = dict(zip(left, found, strict=True))
    return {**max(positions.values(), key=lambda position: position["step"], default=START), "trials": positions}
